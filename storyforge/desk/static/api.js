// Speaks to the desk; every address is below the one with the token.

/** What went wrong, in the author's words. */
export class Refused extends Error {
  constructor(status, told) {
    super([told.message, told.hint].filter(Boolean).join(" — "));
    this.status = status;
    this.told = told;
  }
}

async function read(response) {
  const told = await response.json().catch(() => ({message: response.statusText}));
  if (!response.ok) throw new Refused(response.status, told);
  return told;
}

export const get = async (path) => read(await fetch(`api/${path}`));

export const post = async (path, content) => {
  const headers = {"content-type": "application/json"};
  return read(await fetch(`api/${path}`, {method: "POST", headers, body: JSON.stringify(content)}));
};

export const send = async (path, file) => read(await fetch(`api/${path}`, {method: "POST", body: file}));

/** An element with attributes and children; texts stay texts. */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "time not known yet";
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${(seconds / 3600).toFixed(1)} h`;
}
