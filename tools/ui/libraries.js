// Everything that pages import from libraries. `html` builds elements from template strings, without eval.
import htm from "htm";
import { h } from "preact";

export { batch, computed, effect, signal } from "@preact/signals";
export { render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export const html = htm.bind(h);
