// @ts-check

/** An error whose message is one line for the user: a damaged or hostile file, another kind, a lost connection. */
export class FieldError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "FieldError";
  }
}
