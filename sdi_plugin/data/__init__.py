"""Public data sets, from the official downloads to folders ready for training: the library under `sdi-plugin data`.

```python
from sdi_plugin import data

written = data.prepare("isic2018", source="downloads/", out="data/isic2018", layout="mmseg", size=512)
print(written.images, written.splits, written.notes)
```
"""

from sdi_plugin.data.catalogue import DATASETS, Dataset
from sdi_plugin.data.errors import DataError, WriteError
from sdi_plugin.data.prepare import Prepared, prepare

__all__ = ["DATASETS", "DataError", "Dataset", "Prepared", "WriteError", "prepare"]
