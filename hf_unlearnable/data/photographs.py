"""Photographs in Debian's packages, and the sets that benchmarks make of them.

``photo-patches`` (ten photographs of mate-backgrounds) is what recipes were tuned on. ``photo-patches-2``, ten
photographs of Plasma's and Lomiri's packages, was looked at beside it before a default was changed, and so was
``photo-patches-3``, ten more, once a weakness had shown there. ``photo-patches-4``, ten snapshots that KPhotoAlbum
shows its users, was held back until it gave the reason to ask whether plain waves are the better choice.
``photo-patches-5``, ten of the test pictures of OpenCV's examples, was held back until it decided that, by a rule
written down before. ``photo-patches-6``, ten pictures that a puzzle and two libraries of Python show their users, is
held back. ``photo-patches-20`` are the classes of the second and the third. Most of Debian's wallpapers are drawn, and
photographs without colour are left out, since the want of it would tell the class: there are no hundred. The hundred
classes of ``photo-patches-100`` are five stripes each of twenty photographs, 16 of them of those two sets; a stripe may
look like the next one, so that fewer patches can be told apart. ``photo-patches-224`` are large patches of the
photographs of ``photo-patches``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hf_unlearnable.data.debian import unpack_package
from hf_unlearnable.errors import SourceError

WIDTH = 2560  # of a photograph at most: pixels of larger ones show no texture


@dataclass(frozen=True)
class Photograph:
    """A class: its name, the Debian package, and the file in it."""

    name: str
    package: str
    file: str

    def open(self, folder: Path) -> Image.Image:
        """Read it from below ``folder``, no wider than ``WIDTH``."""
        with Image.open(folder / self.file) as opened:
            image = opened.convert("RGB")
        if image.width <= WIDTH:
            return image
        return image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.BOX)


@dataclass(frozen=True)
class PhotoSet:
    """Photographs, and what is cut from them.

    Attributes:
        photographs: the classes, where they are not cut into stripes.
        side: pixels of a patch.
        cell: source pixels of a train or test cell, no narrower than the largest patch.
        scales: source pixels that become one patch.
        train_each: training patches of a class.
        test_each: test patches of a class.
        stripes: from left to right, that each photograph is cut into; every one is a class.
    """

    photographs: tuple[Photograph, ...]
    side: int = 32
    cell: int = 160
    scales: tuple[int, ...] = (24, 32, 48, 64)
    train_each: int = 400
    test_each: int = 200
    stripes: int = 1

    @property
    def classes(self) -> int:
        """How many there are."""
        return self.stripes * len(self.photographs)

    @property
    def train(self) -> int:
        """Training patches of all classes together."""
        return self.train_each * self.classes

    @property
    def test(self) -> int:
        """Test patches of all classes together."""
        return self.test_each * self.classes

    def cut(self, photos: dict[str, Image.Image]) -> dict[str, Image.Image]:
        """The picture of each class, from those of the photographs."""
        if self.stripes == 1:
            return photos
        return {
            f"{name} {number + 1}": photo.crop((number * width, 0, (number + 1) * width, photo.height))
            for name, photo in photos.items()
            for width in (photo.width // self.stripes,)
            for number in range(self.stripes)
        }


def _mate(*names: str) -> tuple[Photograph, ...]:
    folder = "usr/share/backgrounds/mate/nature"
    return tuple(Photograph(name, "mate-backgrounds", f"{folder}/{name}.jpg") for name in names)


def _plasma(*names: str) -> tuple[Photograph, ...]:
    package, file = "plasma-workspace-wallpapers", "contents/images/2560x1600.jpg"
    return tuple(Photograph(name, package, f"usr/share/wallpapers/{name}/{file}") for name in names)


def _lomiri(release: str, **files: str) -> tuple[Photograph, ...]:
    return _in_folder(f"lomiri-wallpapers-{release}", "usr/share/backgrounds", **files)


def _in_folder(package: str, folder: str, **files: str) -> tuple[Photograph, ...]:
    """Photographs of one folder: their names, and their files, JPEG where nothing else is said."""
    return tuple(
        Photograph(name, package, f"{folder}/{file if Path(file).suffix else f'{file}.jpg'}")
        for name, file in files.items()
    )


FIRST = _mate("Aqua", "Blinds", "Dune", "FreshFlower", "Garden")
FIRST += _mate("GreenMeadow", "LadyBird", "RainDrops", "TwoWings", "YellowFlower")
SECOND = _plasma("BytheWater", "ColorfulCups", "EveningGlow", "FallenLeaf", "OneStandsOut", "Path")
SECOND += _lomiri("20.04", Nuthatch="Kleiber_by_Lukas_Baubkus")
SECOND += _lomiri(
    "16.04",
    Dandelions="seeding_by_Clements_Engelhardt",
    Dragonfly="Dragonfly_by_Bolly",
    Stream="life_by_Aitzol_Berasategi",
)
THIRD = _plasma("Kite") + _mate("Storm")
THIRD += _lomiri(
    "16.04",
    Aitzgorri="aitzgorri_by_Aitzol_Berasategi",
    Bridge="Bridge_by_Sander_Klootwijk",
    Brushes="Picture_1A_by_freespace",
    Dogs="friends_by_Aitzol_Berasategi",
    Fig="Picture_0B_by_freespace",
    PicosDeEuropa="picosdeeuropa_by_Aitzol_Berasategi",
    Sunset="sunset_by_Aitzol_Berasategi",
    Wine="Wine_by_Jakkub_Mede",
)
FOURTH = _in_folder(
    "kphotoalbum",
    "usr/share/kphotoalbum/demo",
    Airport="snow",
    Aquarium="blackie",
    Beach="cold_water",
    Box="spiff_2",
    Canyon="grand_canyon_2",
    Forest="donna",
    Pool="pool",
    Rabbit="spiff",
    Room="wayne",
    Sea="skagen",
)
FIFTH = _in_folder(
    "opencv-doc",
    "usr/share/doc/opencv-doc/examples/data",
    Aloe="aloeL",
    Baboon="baboon",
    Board="board",
    Building="building",
    Chicken="chicky_512.png",
    Fruits="fruits",
    Graffiti="graf1.png",
    Squirrel="squirrel_cls",
    Street="leuvenA",
    Toys="rubberwhale1.png",
)
SIXTH = _in_folder(
    "palapeli-data",
    "usr/share/palapeli/collection",
    Bee="european-honey-bee",
    Castle="castle-maintenon",
    Chameleon="panther-chameleon-female",
    Citrus="citrus-fruits",
    Suspension="cincinnati-bridge",
)
SIXTH += _in_folder(
    "python3-skimage",
    "usr/lib/python3/dist-packages/skimage/data",
    Astronaut="astronaut.png",
    Cat="chelsea.png",
    Coffee="coffee.png",
    Motorcycle="motorcycle_left.png",
)
SIXTH += _in_folder("python3-sklearn", "usr/lib/python3/dist-packages/sklearn/datasets/images", Temple="china")
WITHOUT = ("Nuthatch", "Kite", "Storm", "Aitzgorri")  # stripes of them are all blurred background or sky
OF_MUCH_TEXTURE = tuple(one for one in SECOND + THIRD if one.name not in WITHOUT)
OF_MUCH_TEXTURE += _mate("Dune", "GreenMeadow", "LadyBird", "RainDrops")
PHOTO_SETS = {
    "photo-patches": PhotoSet(FIRST),
    "photo-patches-2": PhotoSet(SECOND),
    "photo-patches-3": PhotoSet(THIRD),
    "photo-patches-4": PhotoSet(FOURTH, cell=80),  # they are 800 pixels wide
    "photo-patches-5": PhotoSet(FIFTH, cell=80),  # from 512 pixels wide on
    "photo-patches-6": PhotoSet(SIXTH, cell=80),  # from 451 pixels wide on
    "photo-patches-20": PhotoSet(SECOND + THIRD),
    "photo-patches-100": PhotoSet(OF_MUCH_TEXTURE, train_each=60, test_each=20, stripes=5),
    "photo-patches-224": PhotoSet(FIRST, side=224, cell=320, scales=(224, 272, 320), train_each=100, test_each=50),
}


def photographs(name: str = "photo-patches", folder: Path | None = None) -> dict[str, Image.Image]:
    """Open the photographs of a set, or the stripes that it cuts them into: a picture for every class.

    Args:
        name: of the set.
        folder: with a ``NAME.jpg`` for every photograph; left out, the installed files, else the packages, fetched
            without root.

    Raises:
        SourceError: a photograph is missing, or a package could not be fetched.
    """
    kind = PHOTO_SETS[name]
    wanted = kind.photographs
    if folder is not None:
        wanted = tuple(Photograph(one.name, one.package, f"{one.name}.jpg") for one in wanted)
        return kind.cut(_opened(wanted, folder))
    if all((Path("/") / one.file).is_file() for one in wanted):
        return kind.cut(_opened(wanted, Path("/")))
    with tempfile.TemporaryDirectory(prefix="photographs-") as scratch:
        for package in dict.fromkeys(one.package for one in wanted):
            unpack_package(package, Path(scratch))
        return kind.cut(_opened(wanted, Path(scratch)))


def _opened(wanted: tuple[Photograph, ...], folder: Path) -> dict[str, Image.Image]:
    missing = [one for one in wanted if not (folder / one.file).is_file()]
    if missing:
        packages = ", ".join(dict.fromkeys(one.package for one in missing))
        raise SourceError(
            f"{folder} lacks {', '.join(one.name for one in missing)}; expected the JPEG photographs of Debian's "
            f"{packages}"
        )
    return {one.name: one.open(folder) for one in wanted}
