"""Data sets: where pictures and labels come from, and how they become batches.

Everything here needs NumPy only; Pillow is imported when a picture is decoded or resized. Threads do the work, and no
process is ever forked.
"""

from nbcnn.data.augment import Augment
from nbcnn.data.dataset import ArrayDataset, Dataset, PixelDataset, Subset, as_dataset, check_labels, split
from nbcnn.data.embedded import digits
from nbcnn.data.folder import ImageFolder
from nbcnn.data.idx import IdxDataset, mnist_folder, read_idx
from nbcnn.data.loader import Loader
from nbcnn.data.npz import read_npz
from nbcnn.data.pictures import decode_picture
from nbcnn.data.preprocessing import Preprocessing
from nbcnn.data.sources import open_data

__all__ = [
    "ArrayDataset",
    "Augment",
    "Dataset",
    "IdxDataset",
    "ImageFolder",
    "Loader",
    "PixelDataset",
    "Preprocessing",
    "Subset",
    "as_dataset",
    "check_labels",
    "decode_picture",
    "digits",
    "mnist_folder",
    "open_data",
    "read_idx",
    "read_npz",
    "split",
]
