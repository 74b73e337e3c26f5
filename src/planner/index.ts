/** Planner: answers for people who have a machine: its tree, who reaches whom, why not, what helps. */

export { renderTopo, type TopoOptions } from "./topo.ts";
