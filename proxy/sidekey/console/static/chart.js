// Charts of usage, drawn as SVG. Labels are HTML, so that they keep their size while bars stretch with the page.

import { CLOCK, LOCALE, number } from "./time.js";
import { html } from "./vendor/preact.js";

/** @typedef {{ requests: number, failed: number }} Point */

const HEIGHT = 100;
/** Height of the smallest bar, so that one failure among thousands of requests stays visible. */
const LEAST = 2;
const DAY = 86400;

const WEEKDAY = new Intl.DateTimeFormat(LOCALE, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });

/** @param {Point[]} points Describe the chart in words, for screen readers. */
export function summary(points) {
  const total = points.reduce((sum, point) => sum + point.requests, 0);
  const failed = points.reduce((sum, point) => sum + point.failed, 0);
  return total ? `${count(total, "request")}, ${number(failed)} failed` : "No requests";
}

/** @param {Point} point @param {number} most @returns {[all: number, failed: number]} The heights of one bar. */
export function heights({ requests, failed }, most) {
  const scale = HEIGHT / Math.max(most, 1);
  const low = failed && Math.max(failed * scale, LEAST);
  return [requests && Math.max(requests * scale, low, LEAST), low];
}

/** @param {{ points: Point[], step: number, from: string, label: string }} props `step` is in seconds, `from` is the begin of the first point. */
export function Chart({ points, step, from, label }) {
  const format = step >= DAY ? DATE : step * points.length > DAY ? WEEKDAY : CLOCK;
  const start = new Date(from).getTime();
  const at = (/** @type {number} */ index) => format.format(start + index * step * 1000);
  const title = (/** @type {Point} */ point, /** @type {number} */ index) =>
    `${at(index)}: ${count(point.requests, "request")}, ${number(point.failed)} failed`;
  const end = start + points.length * step * 1000 > Date.now() ? "now" : at(points.length);
  return html`<figure class="chart">
    <div class="chart-most" aria-hidden="true">${number(largest(points))}</div>
    <${Bars} points=${points} label=${`${label}: ${summary(points)}`} title=${title} />
    <div class="chart-times" aria-hidden="true">
      <span>${at(0)}</span><span>${at(Math.floor(points.length / 2))}</span><span>${end}</span>
    </div>
    <figcaption><span class="chart-key">Requests</span> <span class="chart-key failed">Failed</span></figcaption>
  </figure>`;
}

/** @param {{ points: [requests: number, failed: number][], label: string }} props A small chart for a row of a table. */
export function Spark({ points, label }) {
  const named = points.map(([requests, failed]) => ({ requests, failed }));
  return html`<span class="spark"><${Bars} points=${named} label=${`${label}: ${summary(named)}`} /></span>`;
}

/** @param {{ points: Point[], label: string, title?: (point: Point, index: number) => string }} props */
function Bars({ points, label, title }) {
  const most = largest(points);
  return html`<svg role="img" aria-label=${label} viewBox="0 0 ${points.length * 10} ${HEIGHT}" preserveAspectRatio="none">
    <path class="chart-base" d="M0 ${HEIGHT}H${points.length * 10}" />
    ${points.map((point, index) => {
      const [all, failed] = heights(point, most);
      return html`<g>
        ${title && html`<title>${title(point, index)}</title>`}
        ${title && html`<rect class="chart-hover" x=${index * 10} y="0" width="10" height=${HEIGHT} />`}
        <rect class="chart-bar" x=${index * 10 + 1} y=${HEIGHT - all} width="8" height=${all} />
        <rect class="chart-bar failed" x=${index * 10 + 1} y=${HEIGHT - failed} width="8" height=${failed} />
      </g>`;
    })}
  </svg>`;
}

/** @param {Point[]} points */
function largest(points) {
  return Math.max(0, ...points.map((point) => point.requests));
}

/** @param {number} amount @param {string} noun */
export function count(amount, noun) {
  return `${number(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}
