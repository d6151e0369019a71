// Sentences about a document: where its credential goes, and why secrets must be entered again.
import { clock, day } from "../time.js";
import { pointer as pointerTo } from "./document.js";
import { pointersOf } from "./model.js";

/** @typedef {import("../api.js").ItemError} ItemError */

/** @type {["headers" | "query" | "body", string, string][]} */
const PLACES = [
  ["headers", "header", "headers"],
  ["query", "query parameter", "query parameters"],
  ["body", "body field", "body fields"],
];

/** @param {import("../api.js").Schemas["Targets"]} destination Return where a credential goes, such as "header Authorization, with requests to https://api.example.com". */
export function destinationText({ allowed, learns, places }) {
  const parts = PLACES.flatMap(([key, one, several]) => {
    const names = places[key] ?? [];
    return names.length === 0 ? [] : [`${names.length > 1 ? several : one} ${names.join(", ")}`];
  });
  if (places.signature?.length) parts.push("a signature");
  if (places.handshake?.length) parts.push("the TLS handshake");
  const within = allowed.join(", ");
  const hosts = learns ? `the host that the log-in names${within && `, within ${within}`}` : within;
  return `${parts.join(" and ")}, with requests to ${hosts || "no host yet"}`;
}

/**
 * Return why a secret must be entered again, in the labels of the form.
 * @param {ItemError} error @param {import("./model.js").Field[]} fields
 */
export function enterAgain({ detail }, fields) {
  const reason = detail.replace(/^must be sent again, since /, "");
  const named = reason.replace(/(?<=^|, )(\S+) ((?:beside it )?has changed)/g, (match, name, rest) => {
    const place = `/${name.replaceAll(".", "/")}`;
    const isAt = (/** @type {string} */ pointer) => [place, `/auth${place}`].some((candidate) => candidate === pointer || candidate.startsWith(`${pointer}/`));
    const field = fields.find((candidate) => [...pointersOf(candidate), pointerTo(candidate.path)].some(isAt));
    if (field === undefined) return match;
    // The last row takes its section along.
    const isRow = field.type === "parameters" && place !== pointerTo(field.path);
    return isRow ? `the field ${name.split(".").at(-1)} ${rest}` : `the ${nounOf(field)} ${rest}`;
  });
  return `Enter it again, because ${named}.`;
}

/** @param {import("./model.js").Field} field Return its label inside a sentence. */
function nounOf({ type, label }) {
  if (type === "domains") return "list of domains";
  if (type === "parameters") return "list of fields";
  return label.charAt(0).toLowerCase() + label.slice(1);
}

/** @param {{ set_at: string, set_by: string }} secret */
export function setBy({ set_at: at, set_by: by }) {
  return `Set by ${by} ${clock(at)}.`;
}

/** @param {import("../api.js").Schemas["ShownCertificate"]} certificate @param {number} [now] */
export function certificateText({ subject, issuer, not_after: end }, now = Date.now()) {
  const days = Math.floor((new Date(end).getTime() - now) / 86_400_000);
  const left = days < 0 ? "it has expired" : days === 1 ? "1 day" : `${days} days`;
  return `${subject}, issued by ${issuer}, until ${day(end)} (${left}).`;
}

/** @param {string} file The name of a file that is not text. @param {boolean} isCertificate @returns {string} How to make PEM of it. */
export function convertText(file, isCertificate) {
  const half = isCertificate ? "-nokeys" : "-nocerts -noenc";
  const command = /\.(?:p12|pfx)$/i.test(file) ? `pkcs12 ${half}` : `${isCertificate ? "x509" : "pkey"} -inform der`;
  return `Only PEM, which is text. Convert the file: openssl ${command} -in FILE -out FILE.pem`;
}

export const IS_CERTIFICATE = "this is a certificate: enter it in the field Certificate";

/** @param {string} detail Return an error of the API as the form says it: keys have labels there. */
export function errorText(detail) {
  if (detail === "this key is missing" || detail.startsWith("this kind needs endpoint_prefix")) return "fill this in";
  if (detail.startsWith("needs allowed_domains")) return "enter a domain, or clear the check box";
  // Of a provider: it needs a value of this form.
  const needs = /^this key is missing: \S+ needs (.*)$/s.exec(detail);
  if (needs) return `enter ${needs[1]}`;
  if (detail.startsWith("must be an absolute URL such as")) return "begin with https://, such as https://api.example.com";
  if (detail.startsWith("this private key is encrypted")) return "this private key is encrypted: decrypt it with openssl pkey -in FILE -out FILE.pem";
  if (detail.startsWith("must not contain a private key")) return "this is a private key: enter it in the field Private key";
  if (detail === "must be a private key, but is a certificate") return IS_CERTIFICATE;
  if (detail.startsWith("this is public text: write a secret as")) return "a value that usually is secret is public: check Secret";
  return detail.replace(", and not be unknown", "").replace("write allow_private_ca: true", "check the box below");
}
