// What libraries.js exports. The pages are checked without the libraries' own packages.
export type Signal<T> = { value: T; peek(): T };
export type Computed<T> = { readonly value: T; peek(): T };
export type Ref<T> = { current: T };
type Inputs = readonly unknown[];
type Effect = () => void | (() => void);

/** Elements are opaque: htm hides the properties of components from the compiler. */
export function html(strings: TemplateStringsArray, ...values: unknown[]): Element | Element[];
export function render(element: Element | Element[], parent: HTMLElement): void;

export function signal<T>(value: T): Signal<T>;
export function computed<T>(compute: () => T): Computed<T>;
export function effect(run: Effect): () => void;
export function batch<T>(run: () => T): T;

export function useState<T>(initial: T | (() => T)): [T, (next: T | ((previous: T) => T)) => void];
export function useEffect(run: Effect, inputs?: Inputs): void;
export function useLayoutEffect(run: Effect, inputs?: Inputs): void;
export function useMemo<T>(compute: () => T, inputs: Inputs): T;
export function useRef<T>(initial: T): Ref<T>;
export function useId(): string;

interface Element { readonly type: unknown }
