// Numbers as people read them.
export const say = (/** @type {number | null} */ value) =>
  value === null ? "—" : Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));

const UNITS = ["B", "KB", "MB", "GB", "TB"];
/** @param {number | null} value */
export const sayBytes = (value) => {
  const power = Math.max(0, Math.min(Math.floor(Math.log10(Math.abs(value ?? 0) || 1) / 3), UNITS.length - 1));
  return value === null ? say(value) : `${Number((value / 1000 ** power).toPrecision(3))} ${UNITS[power]}`;
};
