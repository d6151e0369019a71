// The company's log-in in a window beside a page, which stays as it is.
import { useEffect } from "./vendor/preact.js";
import { get } from "./api.js";

const CHANNEL = "sidekey-login";

/** Key in the session storage: the path below /ui to open after the issuer's redirect, or empty in a window beside a page. */
export const NEXT_PATH_KEY = "sidekey-next";

/** @param {boolean} [again] Open the window, on a click: browsers block others. `again`: the issuer asks the person. */
export function openLogInWindow(again) {
  window.open(`/ui/login?window=1${again ? "&again=1" : ""}`, "_blank", "popup,width=520,height=680");
}

/** Tell the page beside this window that somebody has logged in. */
export function announceLogIn() {
  new BroadcastChannel(CHANNEL).postMessage(null);
}

/** @param {(who: import("./session.js").WhoAmI) => void} onDone Somebody has logged in in a window. A hook. */
export function useLogInWindow(onDone) {
  useEffect(() => {
    const channel = new BroadcastChannel(CHANNEL);
    channel.onmessage = async () => {
      const result = await get("/session");
      if (result.ok && result.body.who !== null) onDone(result.body.who);
    };
    return () => channel.close();
  }, []);
}
