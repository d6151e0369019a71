// Times: local, with UTC for those who compare with logs.

/** @typedef {string | number | Date} Moment An RFC 3339 text, or milliseconds since the epoch. */

export const LOCALE = "en-GB";
export const CLOCK = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long" });
const YEAR = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long", year: "numeric" });
const RELATIVE = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto", style: "short" });
const NUMBER = new Intl.NumberFormat(LOCALE);

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** @param {Moment} at @param {number} [now] "2 min ago", "in 3 days". */
export function ago(at, now = Date.now()) {
  const seconds = (new Date(at).getTime() - now) / 1000;
  const [unit, length] = UNITS.find((entry) => Math.abs(seconds) >= entry[1]) ?? UNITS[UNITS.length - 1];
  return RELATIVE.format(Math.trunc(seconds / length), unit);
}

/** @param {Moment} at @param {number} [now] "today 10:42", "yesterday 10:42", "3 May 10:42", "3 May 2025". */
export function clock(at, now = Date.now()) {
  const date = new Date(at);
  const current = new Date(now);
  const yesterday = new Date(current.getFullYear(), current.getMonth(), current.getDate() - 1);
  if (date.toDateString() === current.toDateString()) return `today ${CLOCK.format(date)}`;
  if (date.toDateString() === yesterday.toDateString()) return `yesterday ${CLOCK.format(date)}`;
  return date.getFullYear() === current.getFullYear() ? `${DAY.format(date)} ${CLOCK.format(date)}` : YEAR.format(date);
}

/** @param {Moment} at "10:42:07" */
export const seconds = (at) => SECONDS.format(new Date(at));

/** @param {Moment} at "16 June 2027" */
export const day = (at) => YEAR.format(new Date(at));

/** @param {Moment} at "2026-11-30 10:42:07 UTC" */
export const utc = (at) => new Date(at).toISOString().replace("T", " ").replace(/\.\d+Z$|Z$/, " UTC");

/** @param {number} milliseconds "less than 0.01 s", "0.4 s", "14 s", "3 min", "2 h". */
export function duration(milliseconds) {
  const amount = milliseconds / 1000;
  if (amount < 0.01) return "less than 0.01 s";
  if (amount < 10) return `${amount < 0.05 ? amount.toFixed(2) : amount.toFixed(1)} s`;
  if (amount < 120) return `${Math.round(amount)} s`;
  return amount < 7200 ? `${Math.round(amount / 60)} min` : `${Math.round(amount / 3600)} h`;
}

/** @param {number} value "1,240" */
export const number = (value) => NUMBER.format(value);
