// @ts-check
/**
 * JSON as Python's `json` reads and writes it: whole numbers and floats stay apart, so that a description read here and
 * written again is the same text to the byte.
 */

import { FieldError } from "./errors.js";

/** A number with a point or an exponent: Python's float. */
export class Float {
  /** @param {number} value */
  constructor(value) {
    this.value = value;
  }
}

/** Levels of lists and objects that are read. */
const DEEPEST = 512;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
/** @type {Record<string, string>} */
const SHORT = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
/** @type {Record<string, string>} */
const ESCAPES = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b" };

/** Read JSON from anyone. Objects become Maps, in their order; floats `Float`; whole numbers beyond 2^53 BigInts.
 * @param {string} text @param {string} name of the file, for messages
 * @returns {any} */
export function parse(text, name) {
  const reader = new Reader(text, name);
  const value = reader.value(0);
  reader.space();
  if (reader.at !== text.length) reader.fail("more after its end");
  return value;
}

class Reader {
  /** @param {string} text @param {string} name */
  constructor(text, name) {
    this.text = text;
    this.name = name;
    this.at = 0;
  }

  /** @param {string} what @returns {never} */
  fail(what) {
    throw new FieldError(`${this.name} is not a field file or is damaged: its description has ${what} at ${this.at}`);
  }

  /** The text that a sticky pattern finds here. @param {RegExp} pattern @returns {RegExpExecArray | null} */
  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at += found[0].length;
    return found;
  }

  space() {
    this.take(SPACE);
  }

  /** Whether this character comes next; it is taken then. @param {string} character */
  next(character) {
    this.space();
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  /** @param {number} level @returns {any} */
  value(level) {
    if (level > DEEPEST) this.fail("too many levels");
    this.space();
    const first = this.text[this.at];
    if (first === "{") return this.object(level);
    if (first === "[") return this.list(level);
    if (first === '"') return this.string();
    for (const [word, value] of /** @type {[string, any][]} */ ([["true", true], ["false", false], ["null", null]])) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    const found = this.take(NUMBER);
    if (!found) return this.fail("something that is not JSON");
    if (found[1] === undefined && found[2] === undefined) {
      const whole = Number(found[0]);
      return Number.isSafeInteger(whole) && !Object.is(whole, -0) ? whole : BigInt(found[0]);
    }
    return new Float(Number(found[0]));
  }

  /** @param {number} level @returns {Map<string, any>} */
  object(level) {
    const result = new Map();
    this.next("{");
    if (this.next("}")) return result;
    do {
      this.space();
      if (this.text[this.at] !== '"') this.fail("a name that is not text");
      const key = this.string();
      if (result.has(key)) this.fail("a name that is given twice");
      if (!this.next(":")) this.fail("a name without a value");
      result.set(key, this.value(level + 1));
    } while (this.next(","));
    if (!this.next("}")) this.fail("an object without an end");
    return result;
  }

  /** @param {number} level @returns {any[]} */
  list(level) {
    /** @type {any[]} */
    const result = [];
    this.next("[");
    if (this.next("]")) return result;
    do result.push(this.value(level + 1));
    while (this.next(","));
    if (!this.next("]")) this.fail("a list without an end");
    return result;
  }

  /** @returns {string} */
  string() {
    let result = "";
    this.at += 1;
    for (;;) {
      result += (this.take(PLAIN) ?? [""])[0];
      const character = this.text[this.at++];
      if (character === '"') return result;
      if (character !== "\\") this.fail("a text without an end");
      const escape = this.text[this.at++];
      const digits = this.text.slice(this.at, this.at + 4);
      if (escape === "u" && /^[0-9a-fA-F]{4}$/.test(digits)) {
        result += String.fromCharCode(parseInt(digits, 16));
        this.at += 4;
      } else if (escape in SHORT) result += SHORT[escape];
      else this.fail("an escape that is none");
    }
  }
}

/** Plain data of what `parse` gave: objects, numbers.
 * @param {any} value @returns {any} */
export function plain(value) {
  if (value instanceof Float) return value.value;
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)]));
  return value;
}

/** As Python's `json.dumps(value, separators=(",", ":"))`: text of ASCII characters.
 * @param {any} value of `parse`, or made of Maps, lists, `Float`s, whole numbers, text, booleans and null
 * @returns {string} */
export function dumps(value) {
  if (value === null) return "null";
  if (value instanceof Float) return floatText(value.value);
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return `[${value.map(dumps).join(",")}]`;
  if (value instanceof Map) return `{${[...value].map(([key, inner]) => `${quoted(key)}:${dumps(inner)}`).join(",")}}`;
  if (typeof value === "number" && !Number.isInteger(value)) throw new Error(`${value} must be a Float`);
  return String(value);
}

/** @param {string} text */
function quoted(text) {
  const inner = text.replace(/["\\]|[^ -~]/g, (c) => ESCAPES[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `"${inner}"`;
}

/** Python's `repr` of a float: the shortest digits that give it back.
 * @param {number} value finite @returns {string} */
export function floatText(value) {
  if (!Number.isFinite(value)) throw new FieldError(`a description's numbers must be finite, got ${value}`);
  const [digits, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const text = Object.is(value, -0) ? "-0" : String(value);
  return text.includes(".") ? text : `${text}.0`;
}

/** Numbers as floats. @param {ArrayLike<number>} values @returns {Float[]} */
export const asFloats = (values) => Array.from(values, (value) => new Float(value));
