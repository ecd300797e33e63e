// Reads an AsyncAPI document from stdin; prints what the official parser finds wrong, as JSON.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
const found = diagnostics.map(({ code, message, path, severity }) => ({
  code, message, severity, path: path.join('.'),
}));
console.log(JSON.stringify({
  parsed: document !== undefined,
  channels: document?.channels().all().map((channel) => channel.id()) ?? [],
  found,
}));
