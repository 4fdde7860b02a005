#!/usr/bin/env python3
"""Writes a GGUF again with all quantised weights as Q8_0: the same model, with more bytes to read.

For comparisons of types; what was lost by the first quantisation stays lost. The same input
writes the same bytes.
"""

import argparse
from pathlib import Path

import gguf

Q8_0 = gguf.GGMLQuantizationType.Q8_0
PLAIN = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16}


def copy_fields(reader, writer):
    """All metadata but what the writer adds by itself, and the name of the file's type."""
    own = {"general.architecture", "general.file_type"}
    for field in reader.fields.values():
        if field.name in own or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def add_tensors(reader, writer):
    """Quantised weights as Q8_0, the others as they are; how many were changed."""
    changed = 0
    for tensor in reader.tensors:
        kind = tensor.tensor_type
        if kind in PLAIN or kind == Q8_0:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=kind)
            continue
        values = gguf.quants.dequantize(tensor.data, kind)
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, Q8_0), raw_dtype=Q8_0)
        changed += 1
    return changed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, metavar="IN.gguf")
    parser.add_argument("output", type=Path, metavar="OUT.gguf")
    args = parser.parse_args()
    if not args.input.is_file():
        parser.error(f"no such model: {args.input}")
    reader = gguf.GGUFReader(args.input)
    architecture = reader.get_field("general.architecture").contents()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_name(args.output.name + ".partial")
    writer = gguf.GGUFWriter(partial, architecture)
    copy_fields(reader, writer)
    changed = add_tensors(reader, writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(args.output)
    print(f"make_q8: {changed} of {len(reader.tensors)} tensors are Q8_0 now: {args.output}")


if __name__ == "__main__":
    main()
