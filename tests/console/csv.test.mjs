import assert from "node:assert/strict";
import { test } from "node:test";

import { read, write } from "../../proxy/sidekey/console/static/csv.js";

const utf8 = (text) => new TextEncoder().encode(text);
const cells = (text) => read(utf8(text)).rows.map((each) => each.cells);

test("comma and semicolon, with and without byte order mark, any line ending", () => {
  const expected = { headings: ["phone", "first"], rows: [{ row: 1, cells: ["+44", "Zoë"] }, { row: 2, cells: ["1", ""] }] };
  for (const separator of [",", ";"]) {
    for (const end of ["\n", "\r\n", "\r"]) {
      for (const mark of ["", "\ufeff"]) {
        const text = [`phone${separator} first `, `+44${separator}Zoë`, `1${separator}`].join(end);
        assert.deepEqual(read(utf8(mark + text)), { separator, ...expected });
        assert.deepEqual(read(utf8(mark + text + end + end)), { separator, ...expected });
      }
    }
  }
});

test("quotes may contain separators, lines and doubled quotes", () => {
  assert.deepEqual(cells('a,b\n"x, ""y""\r\nz",2\n'), [['x, "y"\r\nz', "2"]]);
  assert.equal(read(utf8('"a;b;c",d\n1,2')).separator, ",");
  assert.match(read(utf8('a,b\n1,2\n"x,2')), /row 2 is not closed/);
  assert.match(read(utf8('a,b\n"x"y,2')), /row 1/);
});

test("empty rows are skipped and keep their number", () => {
  assert.deepEqual(read(utf8("a,b\n1,2\n,\n\n3,4\n,\n\n")).rows, [
    { row: 1, cells: ["1", "2"] },
    { row: 4, cells: ["3", "4"] },
  ]);
});

test("empty columns of a spreadsheet are dropped", () => {
  assert.deepEqual(read(utf8("a,,\n1,,\n2,,\n")).headings, ["a"]);
  assert.equal(read(utf8("a,,c\n1,2,3\n")), "Column 2 has no heading. Add one.");
});

test("errors say what to do", () => {
  const rows = (count) => utf8(`a\n${"1\n".repeat(count)}`);
  assert.equal(read(rows(1000)).rows.length, 1000);
  assert.equal(read(rows(1001)), "The file has more than 1,000 rows. Split it.");
  assert.equal(read(rows(100_000)), "The file has more than 1,000 rows. Split it.");
  assert.equal(read(utf8("phone,name,phone\n1,2,3")), "Two columns are called phone. Rename one.");
  assert.match(read(utf8("a,b\n1,2\n1,2,3")), /^Row 2 has 3 cells, but there are 2 headings/);
  for (const none of ["", "a,b", "a,b\n\n"]) assert.match(read(utf8(none)), /no rows/);
  const latin = new Uint8Array([97, 10, 0xe9]);
  for (const bytes of [latin, Buffer.from("\ufeffa,b\n1,2", "utf16le"), Buffer.from("a,b\n1,2", "utf16le")]) {
    assert.match(read(bytes), /^This is not a CSV file in UTF-8\. In Excel, save it/);
  }
});

test("a written file has no formulas, and can be read again", () => {
  const table = [["phone", "note"], ["+44", '=1+1,"x"'], ["-1", "@a"], ["plain", "a;b\nc"]];
  const text = write(table, ";");
  assert.equal(text, "\ufeffphone;note\r\n'+44;\"'=1+1,\"\"x\"\"\"\r\n'-1;'@a\r\nplain;\"a;b\nc\"\r\n");
  assert.deepEqual(cells(text), table.slice(1));
});
