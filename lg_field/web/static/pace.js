// @ts-check
/** Work in pieces: large enough to be worth their way to the graphics card, small enough that the page answers. */

/** A dispatch that takes less is followed by a larger one, one that takes more by a smaller one, milliseconds. */
const SHORT_MS = 30, LONG_MS = 200;

/** How much the next dispatch should do. @param {number} size @param {number} ms that the last one took
 * @param {number} least @param {number} most */
export function paced(size, ms, least, most) {
  const factor = ms < SHORT_MS ? 2 : ms > LONG_MS ? 0.5 : 1;
  return Math.min(most, Math.max(least, Math.round(size * factor)));
}
