// What every part of the page is made of: the library, and the tag that turns templates into elements.
import { h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { render };
export { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
