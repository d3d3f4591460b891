// All views: what they are called, what they answer, their place in the toolbox.

import type { ComponentType } from "preact";
import { AccessesView } from "./accesses";
import { AlertsView } from "./alerts";
import { CalleesView } from "./callees";
import { CallsView } from "./calls";
import { DataflowView } from "./dataflow";
import { DescriptorsView } from "./descriptors";
import { DisassemblyView } from "./disassembly";
import { ExecutionsView } from "./executions";
import { LocalsView } from "./locals";
import { MemoryView } from "./memory";
import { NotesView } from "./notes";
import { OutputView } from "./output";
import { RegistersView } from "./registers";
import { SignalsView } from "./signals";
import { SourceView } from "./source";
import { StackView } from "./stack";
import { ThreadsView } from "./threads";
import { WatchesView } from "./watches";

export interface ViewProperties {
  argument: string | undefined;
}

export interface View {
  id: string;
  title: string;
  /** The question that it answers, for the toolbox. */
  asks: string;
  body: ComponentType<ViewProperties>;
}

export const views: View[] = [
  { id: "source", title: "Source", asks: "What ran here, with what values?", body: SourceView },
  { id: "stack", title: "Stack", asks: "How did we get here?", body: StackView },
  { id: "locals", title: "Locals", asks: "What are the variables of this frame?", body: LocalsView },
  { id: "watches", title: "Watches", asks: "What are these expressions, wherever I go?", body: WatchesView },
  { id: "dataflow", title: "Dataflow", asks: "Where did this value come from?", body: DataflowView },
  { id: "accesses", title: "Accesses", asks: "Who wrote, who read this place, ever?", body: AccessesView },
  { id: "executions", title: "Executions", asks: "When did this line or function run?", body: ExecutionsView },
  { id: "callees", title: "Callees", asks: "What did this call call?", body: CalleesView },
  { id: "output", title: "Output", asks: "What was printed, and by whom?", body: OutputView },
  { id: "alerts", title: "Alerts", asks: "What went wrong?", body: AlertsView },
  { id: "calls", title: "System calls", asks: "What was asked of the kernel?", body: CallsView },
  { id: "signals", title: "Signals", asks: "What interrupted the program, and what did it do about it?", body: SignalsView },
  { id: "descriptors", title: "Descriptors", asks: "Which files, pipes and sockets were open, and when?", body: DescriptorsView },
  { id: "threads", title: "Threads", asks: "Who ran, and when?", body: ThreadsView },
  { id: "disassembly", title: "Disassembly", asks: "Which instructions ran, and what did each change?", body: DisassemblyView },
  { id: "registers", title: "Registers", asks: "What is in the processor?", body: RegistersView },
  { id: "memory", title: "Memory", asks: "What bytes are there?", body: MemoryView },
  { id: "notes", title: "Notes", asks: "What do we know already?", body: NotesView },
];

export const isView = (id: string) => views.some((it) => it.id === id);
