// Validates custom resources against the schemas that their projects publish.
//
// Reads a JSON list of objects from stdin and writes the list of faults. The schemas say nothing of keys that they do
// not know; TypeScript, which compares each object with the type of its kind, does.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const MODULES = {
  "external-secrets.io/v1": "@kubernetes-models/external-secrets/external-secrets.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};
const PROGRAM = fileURLToPath(new URL("objects.ts", import.meta.url));
const OPTIONS = {
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  types: [],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
};

async function schemaFault(object) {
  const module = MODULES[object.apiVersion];
  const Model = module && (await import(module))[object.kind];
  if (Model === undefined) return `no schema is known for ${object.apiVersion} ${object.kind}`;
  try {
    new Model(object).validate();
    return null;
  } catch (error) {
    return error.message;
  }
}

function typeFaults(objects) {
  const source = objects
    .map((object, index) => {
      const type = `import("${MODULES[object.apiVersion]}").I${object.kind}`;
      return `export const object${index}: ${type} = ${JSON.stringify(object, null, 1)};\n`;
    })
    .join("");
  const host = ts.createCompilerHost(OPTIONS);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => name === PROGRAM || fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    name === PROGRAM ? ts.createSourceFile(name, source, OPTIONS.target) : getSourceFile(name, ...rest);
  return ts
    .getPreEmitDiagnostics(ts.createProgram([PROGRAM], OPTIONS, host))
    .map((found) => ts.flattenDiagnosticMessageText(found.messageText, " "));
}

const objects = JSON.parse(readFileSync(0, "utf8"));
const faults = (await Promise.all(objects.map(schemaFault))).filter((fault) => fault !== null);
process.stdout.write(JSON.stringify(faults.length > 0 ? faults : typeFaults(objects)));
