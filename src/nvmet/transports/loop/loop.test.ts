import { loopHarness } from "../../../../testing/nvmet-harness.ts";
import { nvmetTransportContract } from "../../../../testing/nvmet-transport-contract.ts";

nvmetTransportContract("loop", async () => loopHarness());
