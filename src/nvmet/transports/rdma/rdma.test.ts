import { rdmaHarness } from "../../../../testing/nvmet-rdma-harness.ts";
import { nvmetTransportContract } from "../../../../testing/nvmet-transport-contract.ts";

nvmetTransportContract("rdma", rdmaHarness);
