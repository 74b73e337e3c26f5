/** Writes docs/guide/target-config.md from the schema: `npm run docs:config`. */
import { writeFileSync } from "node:fs";
import { targetConfigDoc } from "../src/scenario/index.ts";

writeFileSync(new URL("../docs/guide/target-config.md", import.meta.url), targetConfigDoc());
