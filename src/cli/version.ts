/** The version, from package.json: one place, bundled at build. */

import manifest from "../../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
