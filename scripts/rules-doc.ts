/** Writes docs/rules.md from the rules' own data: `npm run docs:rules`. */
import { writeFileSync } from "node:fs";
import { rulesMarkdown } from "../src/p2p/index.ts";

writeFileSync(new URL("../docs/rules.md", import.meta.url), rulesMarkdown());
