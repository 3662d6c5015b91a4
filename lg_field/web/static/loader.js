// @ts-check
/** Where the page's parts are: beside it on a host, or inside it where it is one file. */

/** What `lg-field publish` wrote into the page. @returns {import("./types.js").Site} */
export function site() { throw new Error("not yet"); }
/** Text of a file of the page (WGSL, ...). @param {string} name @returns {Promise<string>} */
export async function resourceText(name) { return ""; }
/** An address of a file of the page, for pictures. @param {string} name @returns {string} */
export function resourceUrl(name) { return name; }
/** What the scene is read from. @returns {Promise<import("./types.js").Source>} */
export async function fieldSource() { return { url: "" }; }
