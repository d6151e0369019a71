// Validates custom resources against the schemas that their projects publish.
//
// Reads a JSON list of objects from stdin and writes a list with the faults of each. The schemas say nothing of keys
// that they do not know; TypeScript, which compares each object with the type of its kind, does.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const MODULES = {
  "cert-manager.io/v1": "@kubernetes-models/cert-manager/cert-manager.io/v1",
  "external-secrets.io/v1": "@kubernetes-models/external-secrets/external-secrets.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};
const PROGRAM = fileURLToPath(new URL("objects.ts", import.meta.url));
const OPTIONS = {
  noEmit: true,
  strict: true,
  skipLibCheck: true,
  types: [],
  lib: ["lib.es2022.d.ts"],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
};

async function schemaFault(object) {
  const module = MODULES[object.apiVersion];
  // The module of this kind alone: the index of a group loads the schemas of all.
  const Model = module && (await import(`${module}/${object.kind}`).catch(() => ({})))[object.kind];
  if (Model === undefined) return `no schema is known for ${object.apiVersion} ${object.kind}`;
  try {
    new Model(object).validate();
    return null;
  } catch (error) {
    return error.message;
  }
}

// The faults of each object that TypeScript finds, by the object's place in the list.
function typeFaults(objects) {
  const starts = [];
  let source = "";
  objects.forEach((object, index) => {
    starts.push(source.length);
    const type = `import("${MODULES[object.apiVersion]}/${object.kind}").I${object.kind}`;
    source += `export const object${index}: ${type} = ${JSON.stringify(object, null, 1)};\n`;
  });
  const host = ts.createCompilerHost(OPTIONS);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => name === PROGRAM || fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    name === PROGRAM ? ts.createSourceFile(name, source, OPTIONS.target) : getSourceFile(name, ...rest);
  const faults = objects.map(() => []);
  for (const found of ts.getPreEmitDiagnostics(ts.createProgram([PROGRAM], OPTIONS, host))) {
    const place = Math.max(0, starts.findLastIndex((start) => start <= (found.start ?? 0)));
    faults[place].push(ts.flattenDiagnosticMessageText(found.messageText, " "));
  }
  return faults;
}

const objects = JSON.parse(readFileSync(0, "utf8"));
const faults = (await Promise.all(objects.map(schemaFault))).map((fault) => (fault === null ? [] : [fault]));
const passed = objects.map((_, index) => index).filter((index) => faults[index].length === 0);
typeFaults(passed.map((index) => objects[index])).forEach((found, place) => faults[passed[place]].push(...found));
process.stdout.write(JSON.stringify(faults));
