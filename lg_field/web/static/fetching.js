// @ts-check
/** A file on a host, read by ranges: some requests in flight, tried again when one fails. */

import { commas } from "./container.js";
import { FieldError } from "./errors.js";

/** Requests at a time, as long as they ask for no more than so many bytes; in any case so many of them. */
export const IN_FLIGHT = 32;
const BYTES_IN_FLIGHT = 1 << 23, LEAST_IN_FLIGHT = 6;
const TRIES = 4;
/** Milliseconds before the second try; three times as many before each further one. */
const FIRST_PAUSE = 300;
/** Milliseconds without a byte after which a request is given up. */
const STALLED = 20_000;
/** A host without ranges sends the whole file: not more than this. */
const LARGEST_WHOLE = 2 ** 30;
/** Bytes that the first request asks for, at least. */
export const HEAD = 1 << 16;

/** From a byte to before another one. @typedef {[number, number]} Range */
/** @typedef {{onBytes?: (count: number) => void, onNotice?: (line: string) => void, pause?: number}} Options */

/** A failure that may pass: the request is made again. */
class Passing extends Error {}

/** What a scene is read from: `open` first, then any ranges. Counts what it fetches. */
export class RangeFile {
  /** @param {string} url @param {Options} [options] */
  constructor(url, options = {}) {
    this.url = url;
    this.name = decodeURIComponent(url.split(/[?#]/)[0].split("/").pop() || url);
    this.options = options;
    /** Bytes in all, known after `open`. */
    this.size = 0;
    this.requests = 0;
    this.bytesFetched = 0;
    /** The whole file, where the host serves no ranges. @type {Uint8Array | null} */
    this.whole = null;
    /** Its first bytes. */
    this.head = new Uint8Array();
    this.tag = "";
    /** Bytes that came with the first ones. @type {{start: number, bytes: Uint8Array}[]} */
    this.held = [];
    /** The whole file on its way. @type {Promise<Uint8Array> | null} */
    this.taking = null;
    this.waiting = /** @type {{bytes: number, go: (value?: any) => void}[]} */ ([]);
    this.running = this.flying = 0;
  }

  /** Learn the file's size and its first bytes.
   * @param {Range[]} [ranges] what will be asked for, as far as it is known before: it comes at the same time. Where a
   *   guess was wrong, what is lacking is asked for as usual. */
  async open(ranges = []) {
    const first = Math.max(HEAD, ...ranges.filter(([start]) => start === 0).map(([, end]) => end));
    const guessed = ranges.filter(([start, end]) => start >= first && end > start).map(async ([start, end]) => {
      const bytes = await this.#tried(start, end).catch(() => new Uint8Array());
      if (!this.whole && bytes.length === end - start) this.held.push({ start, bytes });
    });
    [this.head] = await Promise.all([this.#tried(0, first), ...guessed]);
  }

  /** Bytes from `start` to before `end`.
   * @param {number} start @param {number} end
   * @param {AbortSignal} [signal] gives up while the request waits for its turn; one that was made is seen through
   * @param {() => boolean} [begins] called when its turn has come; false: it is not wanted any more, nothing is read
   * @returns {Promise<Uint8Array>} */
  async read(start, end, signal, begins = () => true) {
    if (end > this.size) throw new FieldError(`${this.name} is truncated: it ends ${commas(end - this.size)} bytes too early`);
    if (this.whole || end <= this.head.length) return begins() ? (this.whole ?? this.head).subarray(start, end) : new Uint8Array();
    const held = this.held.find((one) => one.start <= start && end <= one.start + one.bytes.length);
    if (held) return begins() ? held.bytes.subarray(start - held.start, end - held.start) : new Uint8Array();
    const first = Math.max(start, this.head.length);
    const rest = await this.#turn(end - first, async () => (begins() && end > first ? this.#tried(first, end) : new Uint8Array()), signal);
    return start < first && rest.length ? joined([this.head.subarray(start), rest]) : rest;
  }

  /** Wait for a place in flight. @template T @param {number} bytes that are asked for @param {() => Promise<T>} task
   * @param {AbortSignal} [signal] */
  async #turn(bytes, task, signal) {
    await new Promise((go) => {
      this.waiting.push({ bytes, go });
      this.#admit();
    });
    try {
      signal?.throwIfAborted();
      return await task();
    } finally {
      this.running -= 1;
      this.flying -= bytes;
      this.#admit();
    }
  }

  /** Let those go that have waited longest, as long as there are places. */
  #admit() {
    for (let next = this.waiting[0]; next; next = this.waiting[0]) {
      const most = this.flying + next.bytes > BYTES_IN_FLIGHT ? LEAST_IN_FLIGHT : IN_FLIGHT;
      if (this.running >= most) return;
      this.running += 1;
      this.flying += next.bytes;
      this.waiting.shift();
      next.go();
    }
  }

  /** @param {number} start @param {number} end @returns {Promise<Uint8Array>} */
  async #tried(start, end) {
    let pause = this.options.pause ?? FIRST_PAUSE;
    for (let tries = 1; ; tries++) {
      if (this.whole) return this.whole.subarray(start, end);
      try {
        return await this.#request(start, end);
      } catch (error) {
        if (!(error instanceof Passing)) throw error;
        if (tries === TRIES) {
          throw new FieldError(`the connection to the host was lost: ${this.name}, bytes ${commas(start)} to ${commas(end)}, ${TRIES} tries (${error.message})`);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause *= 3;
    }
  }

  /** @param {number} start @param {number} end @returns {Promise<Uint8Array>} */
  async #request(start, end) {
    const watch = new Watch();
    this.requests += 1;
    try {
      const reply = await fetch(this.url, { headers: { Range: `bytes=${start}-${end - 1}` }, signal: watch.signal });
      this.#checkStatus(reply);
      if (reply.status === 200) return (await this.#wholeOf(reply, watch)).subarray(start, end);
      const size = this.#checkRange(reply, start);
      return await this.#body(reply, Math.min(end, size) - start, watch);
    } catch (error) {
      const stalled = watch.signal.aborted;
      watch.stop(); // nobody reads what else comes
      if (error instanceof FieldError || error instanceof Passing) throw error;
      throw new Passing(stalled ? "nothing came for a while" : String(/** @type {Error} */ (error).message ?? error));
    } finally {
      watch.end();
    }
  }

  /** @param {Response} reply */
  #checkStatus(reply) {
    if (reply.status === 200 || reply.status === 206) return;
    if (reply.status >= 500 || reply.status === 429 || reply.status === 408) throw new Passing(`HTTP ${reply.status}`);
    if (reply.status === 416 && !this.size) throw new FieldError(`${this.name} is not a field file: it is empty`);
    throw new FieldError(`${this.name} cannot be fetched from the host: HTTP ${reply.status}`);
  }

  /** The file's size, from a reply with a part of it. @param {Response} reply @param {number} start */
  #checkRange(reply, start) {
    const found = /^bytes (\d+)-\d+\/(\d+)$/.exec(reply.headers.get("Content-Range") ?? "");
    if (!found || Number(found[1]) !== start) throw new FieldError(`the host does not say which bytes of ${this.name} it sends (Content-Range)`);
    const size = Number(found[2]), tag = reply.headers.get("ETag") ?? "";
    if (this.size && (size !== this.size || tag !== this.tag)) throw new FieldError(`${this.name} changed on the host while it was read: reload the page`);
    this.size = size;
    this.tag = tag;
    return size;
  }

  /** All of the file, once: other requests that it answers wait for the first one. @param {Response} reply @param {Watch} watch */
  async #wholeOf(reply, watch) {
    if (this.taking) watch.stop();
    this.taking ??= this.#takeWhole(reply, watch);
    try {
      return await this.taking;
    } catch (error) {
      this.taking = null;
      throw error;
    }
  }

  /** All of the file, which a host without ranges sends. @param {Response} reply @param {Watch} watch */
  async #takeWhole(reply, watch) {
    const length = Number(reply.headers.get("Content-Length") ?? 0);
    if (length > LARGEST_WHOLE) throw new FieldError(`the host serves no ranges, and ${this.name} is too large to be read whole (${commas(length)} bytes)`);
    this.options.onNotice?.(`the host serves no byte ranges: the whole file is fetched${length ? ` (${commas(length)} bytes)` : ""}`);
    const whole = await this.#body(reply, length && !reply.headers.get("Content-Encoding") ? length : -1, watch);
    if (this.size && whole.length !== this.size) throw new FieldError(`${this.name} changed on the host while it was read: reload the page`);
    this.size = whole.length;
    this.whole = whole;
    return whole;
  }

  /** Bytes of a reply, as they come: nothing is set aside for what did not.
   * @param {Response} reply @param {number} count -1 = whatever comes @param {Watch} watch
   * @returns {Promise<Uint8Array>} */
  async #body(reply, count, watch) {
    const reader = reply.body?.getReader(), pieces = [];
    let done = 0;
    for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
      watch.restart();
      pieces.push(piece.value);
      done += piece.value.length;
      this.bytesFetched += piece.value.length;
      this.options.onBytes?.(piece.value.length);
      if (done > (count < 0 ? LARGEST_WHOLE : count)) {
        await reader?.cancel();
        throw new FieldError(`the host sends more of ${this.name} than it was asked for`);
      }
    }
    if (count >= 0 && done < count) throw new Passing(`${commas(count - done)} bytes are missing`);
    return joined(pieces);
  }
}

/** Aborts a request that has stalled. */
class Watch {
  constructor() {
    this.controller = new AbortController();
    this.signal = this.controller.signal;
    this.stop = () => this.controller.abort();
    this.timer = setTimeout(this.stop, STALLED);
  }

  restart() {
    this.end();
    this.timer = setTimeout(this.stop, STALLED);
  }

  end() {
    clearTimeout(this.timer);
  }
}

/** A whole file in memory, read as one on a host is. */
export class MemoryFile {
  /** @param {Uint8Array} bytes @param {string} name */
  constructor(bytes, name) {
    this.whole = bytes;
    this.name = name;
    this.size = bytes.length;
    this.requests = 0;
    this.bytesFetched = bytes.length;
  }

  /** @param {Range[]} [_ranges] */
  async open(_ranges) {}

  /** @param {number} start @param {number} end @param {AbortSignal} [_signal] @param {() => boolean} [begins]
   * @returns {Promise<Uint8Array>} */
  async read(start, end, _signal, begins = () => true) {
    begins();
    if (end > this.size) throw new FieldError(`${this.name} is truncated: it ends ${commas(end - this.size)} bytes too early`);
    return this.whole.subarray(start, end);
  }
}

/** Pieces as one. @param {Uint8Array[]} pieces @returns {Uint8Array} */
export function joined(pieces) {
  if (pieces.length === 1) return pieces[0];
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
