"""The 20 classes of PASCAL VOC (2007 and later)."""

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
"""Names in the order of the values in SegmentationClass, which count from 1; 0 is the background."""
