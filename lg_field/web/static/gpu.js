// @ts-check
/** The graphics card: its device with the limits that it has, and buffers on it. */

/** Why this browser cannot draw, in one line. */
export class NoGpu extends Error {}

/** The device; rejects with `NoGpu`. @returns {Promise<GPUDevice>} */
export async function openDevice() {
  if (!navigator.gpu) {
    const secure = globalThis.isSecureContext ? "" : " (pages need https for it, or 127.0.0.1)";
    throw new NoGpu(`This browser has no WebGPU${secure}, which draws the scene: use a recent Chrome, Edge, Safari or Firefox.`);
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new NoGpu("This browser has WebGPU, but no graphics card that it may use, so the scene cannot be drawn.");
  const names = ["maxStorageBufferBindingSize", "maxBufferSize", "maxTextureDimension3D"];
  const requiredLimits = Object.fromEntries(names.map((name) => [name, /** @type {any} */ (adapter.limits)[name]]));
  return adapter.requestDevice({ requiredLimits });
}

/** A buffer of at least one vector for shaders to read. @param {GPUDevice} device @param {number} bytes
 * @param {string} what for the message where it is too large */
export function storage(device, bytes, what) {
  const most = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  if (bytes > most) {
    throw new Error(`${what} would take ${megabytes(bytes)} on the graphics card, which gives ${megabytes(most)} at most: keep fewer cells`);
  }
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  return device.createBuffer({ size: Math.max(16, Math.ceil(bytes / 16) * 16), usage });
}

/** A buffer with these values. @param {GPUDevice} device @param {Float32Array | Int32Array | Uint32Array} values @param {string} what */
export function filled(device, values, what) {
  const buffer = storage(device, values.byteLength, what);
  device.queue.writeBuffer(buffer, 0, /** @type {any} */ (values));
  return buffer;
}

/** Bytes for people. @param {number} bytes */
export function megabytes(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
}
