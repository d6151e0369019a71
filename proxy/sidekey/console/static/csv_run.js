// Send the rows of a file one after the other.

const MAX_FAILURES = 5;
/** Maximum seconds to wait for a rate limit. */
const MAX_WAIT = 120;

/**
 * @typedef {import("./sending.js").Send} Send
 * @typedef {Send["outcome"] | "left_out" | "accepted_before"} Outcome
 * @typedef {{ outcome: Outcome } & Partial<Omit<Send, "outcome">> & { errors?: { pointer: string, detail: string }[] }} RowResult
 * @typedef {{ row: number, text: string, body: string }} Item The number of a row in its file, its content, and the body of its send.
 * @typedef {"running" | "pausing" | "paused" | "stopping" | "stopped" | "done"} Phase
 */

/** Sends rows in order. A run that has stopped or is done cannot be continued. A row that is sent again keeps its key. */
export class Run {
  /**
   * @param {Item[]} items
   * @param {Map<number, RowResult>} results  Results by row. The run adds to them.
   * @param {{ send: (item: Item, onFetch: (connected: boolean) => void, isCancelled: () => boolean) => Promise<import("./sending.js").SendResult>,
   *   wait: (milliseconds: number) => Promise<unknown>, now: () => number, onChange: () => void, perMinute: number | null }} options
   */
  constructor(items, results, options) {
    this.items = items;
    this.results = results;
    this.position = 0;
    /** @type {Phase} */
    this.phase = "running";
    /** The reason of a pause, a stop or a wait. */
    this.note = "";
    this.failures = 0;
    this.isUncertain = false;
    this.options = options;
  }

  get isBusy() {
    return this.phase !== "stopped" && this.phase !== "done";
  }

  /** True if it is done and all rows were accepted. */
  get areAllAccepted() {
    return this.phase === "done" && this.items.every(({ row }) => this.results.get(row)?.outcome === "accepted");
  }

  /** Send until the run is done, paused or stopped. */
  async go() {
    this.#setPhase("running", "");
    while (this.phase === "running" && this.position < this.items.length) {
      const item = this.items[this.position];
      const sent = await this.options.send(item, (connected) => this.#noteFetch(item.row, connected), () => this.phase === "stopping");
      this.isUncertain = "lost" in sent || "unreachable" in sent;
      if ("send" in sent) await this.#record(item.row, sent.send);
      else if ("problem" in sent) await this.#refused(item.row, sent);
      else if ("lost" in sent) this.#pause(`Sidekey has not received row ${item.row}.`);
      else this.#pause("There is no connection to Sidekey.");
    }
    if (this.phase === "stopping") this.#end("");
    else if (this.isBusy && this.position === this.items.length) this.#setPhase("done", "");
    else if (this.phase === "pausing") this.#setPhase("paused", "");
  }

  /** Pause after the current row. */
  pause() {
    this.#setPhase("pausing", this.note);
  }

  /** Stop after the current row. */
  stop() {
    if (this.phase === "paused") this.#end("");
    else this.#setPhase("stopping", this.note);
  }

  #end(/** @type {string} */ note) {
    if (this.isUncertain) this.#addResult(this.items[this.position].row, { outcome: "unknown" });
    this.isUncertain = false;
    this.#setPhase("stopped", note);
  }

  #addResult(/** @type {number} */ row, /** @type {RowResult} */ result) {
    this.results.set(row, result);
    this.position += 1;
    this.failures = result.outcome === "accepted" ? 0 : this.failures + 1;
  }

  async #record(/** @type {number} */ row, /** @type {Send} */ send) {
    this.#addResult(row, send);
    if (send.outcome === "refused" && (send.status === 401 || send.status === 403)) {
      this.#end(`${send.host} refused Sidekey's credential (${send.status}).`);
    } else if (this.failures >= MAX_FAILURES) {
      this.#end("five rows in a row were not accepted.");
    } else if (this.position < this.items.length) {
      await this.#wait(send.retry_after ?? 0, `${send.host} asks to slow down`);
    }
    this.options.onChange();
  }

  async #refused(/** @type {number} */ row, /** @type {{ problem: any, status: number, retryAfter: number | null }} */ { problem, status, retryAfter }) {
    const seconds = retryAfter ?? 1;
    if (problem.code === "invalid") {
      this.#addResult(row, { outcome: "not_sent", code: "invalid", errors: problem.errors });
      if (this.failures >= MAX_FAILURES) this.#end("five rows in a row were not accepted.");
    } else if (problem.code === "too_many") {
      await this.#wait(seconds, "several sends are still under way");
    } else if (problem.code === "send_limit" && seconds <= MAX_WAIT) {
      const isDay = problem.errors.some((/** @type {any} */ { pointer }) => pointer === "/per_day");
      await this.#wait(seconds, isDay ? "your limit of 24 hours" : `your limit of ${this.options.perMinute} a minute`);
    } else if (problem.code === "send_limit") {
      this.#end(`your limit is reached for ${durationText(seconds)}.`);
    } else if (problem.code === "forbidden") {
      this.#end("you may no longer send this.");
    } else if (problem.code === "store_unavailable") {
      this.#pause("Sidekey's database cannot be reached.");
    } else if (problem.code === "stopping") {
      this.#pause("Sidekey is restarting.");
    } else {
      this.#pause(status === 401 ? "You are logged out." : `${problem.title}.`);
    }
  }

  #pause(/** @type {string} */ note) {
    if (this.phase !== "stopping") this.#setPhase("paused", note);
  }

  #noteFetch(/** @type {number} */ row, /** @type {boolean} */ connected) {
    this.note = connected ? `Asking Sidekey what became of row ${row}…` : "No connection to Sidekey. Asking again…";
    this.options.onChange();
  }

  async #wait(/** @type {number} */ seconds, /** @type {string} */ reason) {
    const { wait, now, onChange } = this.options;
    const end = now() + seconds * 1000;
    // Browsers run timers of hidden pages once a minute, so the clock decides.
    while (now() < end && this.phase === "running") {
      this.note = `Waiting ${Math.ceil((end - now()) / 1000)} s: ${reason}`;
      onChange();
      await wait(1000);
    }
    this.note = "";
  }

  #setPhase(/** @type {Phase} */ phase, /** @type {string} */ note) {
    this.phase = phase;
    this.note = note;
    this.options.onChange();
  }
}

function durationText(/** @type {number} */ seconds) {
  const hours = Math.ceil(seconds / 3600);
  if (seconds > 3600) return `${hours} hours`;
  return `${Math.ceil(seconds / 60)} minutes`;
}
