/** The description with pages: registration, entries, the memory, what architectures allow. */

export * from "./linear-map.ts";
export {
  PAGE_ENTRY_WORDS,
  PageEntries,
  PageFlag,
  PageWord,
  SubsectionTable,
} from "./page-entries.hot.ts";
export * from "./page-memory.hot.ts";
export * from "./page-table.ts";
