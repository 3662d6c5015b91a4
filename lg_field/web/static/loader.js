// @ts-check
/**
 * Where the page's parts are: beside it on a host, or inside it where it is one file that opens from disk.
 *
 * `lg-field publish` looks for these lines in index.html, each once, and fills them in; a one-file page has the contents
 * of the files in their places:
 *
 *     <title>lg-field</title>
 *     <link rel="stylesheet" href="style.css">
 *     <script type="application/json" id="site">{}</script>
 *     <script type="module" src="page.js"></script>
 *
 * Modules import each other as "./name.js" (static imports only), and ask here for everything else that is a file.
 */

/** @typedef {import("./types.js").Site} Site */

const EMPTY = { title: "lg-field", description: "", field: "", bytes: 0, ranges: [], still: null, camera: null, views: [], path: null };

/** What `lg-field publish` wrote into the page.
 * @returns {Site} */
export function site() {
  const element = document.getElementById("site");
  return { ...EMPTY, ...JSON.parse(element?.textContent || "{}") };
}

/** The element that holds a file inside the page, as base64.
 * @param {string} name @returns {HTMLElement | null} */
function inside(name) {
  return /** @type {HTMLElement | null} */ (document.querySelector(`script[data-file="${CSS.escape(name)}"]`));
}

/** Bytes of a file inside the page.
 * @param {HTMLElement} element @returns {Uint8Array} */
function bytesOf(element) {
  const text = atob((element.textContent ?? "").trim());
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

/** Text of a file of the page (WGSL, ...).
 * @param {string} name @returns {Promise<string>} */
export async function resourceText(name) {
  const element = inside(name);
  if (element) return new TextDecoder().decode(bytesOf(element));
  const reply = await fetch(name);
  if (!reply.ok) throw new Error(`${name} is missing beside the page (HTTP ${reply.status}): publish the scene again`);
  return reply.text();
}

/** An address of a file of the page, for pictures.
 * @param {string} name @returns {string} */
export function resourceUrl(name) {
  const element = inside(name);
  return element ? `data:${element.dataset.type};base64,${(element.textContent ?? "").trim()}` : name;
}

/** What the scene is read from.
 * @returns {Promise<import("./types.js").Source>} */
export async function fieldSource() {
  const name = site().field, element = inside(name);
  return element ? { bytes: bytesOf(element), name } : { url: name, ranges: site().ranges };
}
