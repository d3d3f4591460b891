// Colours of tasks, distinct to the colour-blind, and always beside a label.

const COLOURS = 6;

export const taskColour = (task: number) => `var(--task-${(task - 1) % COLOURS})`;
