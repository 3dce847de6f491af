"""Draw the opening image of the README: of eight random test captions the one with most hits.

    make opening RUN=runs/synthetic/lgur/latest

The eight are those of the run's own gallery, drawn without looking at scores. Ties are broken by
the first right image, then by order.
"""

import argparse
from pathlib import Path

import torch
from PIL import ImageOps

import tireid
from tireid.callbacks.result_gallery import gallery_rows, row_block
from tireid.console import say
from tireid.data.records import captions_of
from tireid.figures.pages import PAPER
from tireid.files import replacing
from tireid.inference.restore import restore_datamodule
from tireid.inference.saved_config import evaluation_config
from tireid.retrieval.collection import SplitEmbeddings
from tireid.runs.weights import find_run

QUERIES, BEST = 8, 10


def main() -> None:
    """Embed the test split, choose, draw."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--run", default="latest")
    parser.add_argument("--output", type=Path, default=Path("docs/assets/gallery.jpg"))
    arguments = parser.parse_args()
    folder, checkpoint = find_run(arguments.run)
    data = restore_datamodule(evaluation_config(folder), folder)
    data.prepare_data()
    data.setup("test")
    records = data.records("test")
    retriever = tireid.load(checkpoint)
    own = [number for number, record in enumerate(records) for _ in record.captions]
    pids = torch.tensor([record.pid for record in records])
    split = SplitEmbeddings(
        texts=retriever.encode_text(captions_of(records)),
        images=retriever.encode_image([record.image_path for record in records]),
        text_pids=pids[own],
        image_pids=pids,
        image_index=torch.tensor(own),
    )
    rows = gallery_rows(records, split, QUERIES, BEST)
    best = max(rows, key=lambda row: (sum(row.right), row.right))
    with replacing(arguments.output) as file:
        ImageOps.expand(row_block(best), 10, PAPER).save(file, "JPEG", quality=88, optimize=True)
    say(f"written: {arguments.output}: {sum(best.right)} of {len(best.found)} are right")


if __name__ == "__main__":
    main()
