/**
 * Linux against `peerlane target`: one file, so that one guest serves all steps. Run it with
 * `npm run test:kernel`; see README.md beside it.
 */
import { afterAll, beforeAll } from "vitest";
import { lab } from "./lab.ts";

beforeAll(() => lab.prepare(), 600_000);
afterAll(() => lab.close(), 30_000);

await import("./steps/filesystem.ts");
await import("./steps/connecting.ts");
await import("./steps/commands.ts");
await import("./steps/capture.ts");
await import("./steps/fio.ts");
await import("./steps/recovery.ts");
await import("./steps/multipath.ts");
await import("./steps/live.ts");
await import("./steps/security.ts");
await import("./steps/hostile.ts");
