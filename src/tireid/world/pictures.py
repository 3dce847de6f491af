"""Draw the images of identities and write them; also the program of the worker processes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tireid.world.identities import Identity, make_population
from tireid.world.layouts import image_path
from tireid.world.picture import make_picture
from tireid.world.settings import WorldSettings

WORKER_FAILED = 3


def write_pictures(
    folder: Path, settings: WorldSettings, identities: list[Identity]
) -> Iterator[list[dict[str, Any]]]:
    """Write the images of some identities and yield each one's rows of the ground truth.

    Args:
        folder: Root of the world; images go below its `imgs/`.
        settings: Settings of the world.
        identities: The identities to draw.
    """
    for identity in identities:
        rows = []
        for index in range(settings.images_per_id):
            picture = make_picture(settings, identity, index)
            path = image_path(settings.layout, identity, picture.truth["camera"], index)
            target = folder / "imgs" / path
            # Not `imgs` itself: if it is gone, so is the process that asked for the images.
            for parent in reversed(Path(path).parents[:-1]):
                (folder / "imgs" / parent).mkdir(exist_ok=True)
            target.write_bytes(picture.jpeg)
            captions = [
                {"text": c.text, "mentioned": list(c.mentioned), "wrong": list(c.wrong)}
                for c in picture.captions
            ]
            rows.append(
                {
                    "path": path,
                    "pid": identity.pid,
                    "split": identity.split,
                    "twin": identity.twin,
                    **picture.truth,
                    "captions": captions,
                }
            )
        yield rows


def main() -> int:
    """Draw a worker's share: read the job from standard input, print a line an identity."""
    job = json.loads(sys.stdin.readline())
    settings = WorldSettings(**job["settings"])
    identities = make_population(settings)[job["worker"] :: job["num_workers"]]
    try:
        for identity, rows in zip(
            identities, write_pictures(Path(job["folder"]), settings, identities), strict=True
        ):
            line = json.dumps({"ordinal": identity.ordinal, "rows": rows})
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        # The process that asked for the images is gone: nobody wants the rest.
        return WORKER_FAILED
    except OSError as error:
        problem = {"errno": error.errno, "error": error.strerror or str(error)}
        sys.stdout.write(json.dumps(problem) + "\n")
        sys.stdout.flush()
        return WORKER_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
