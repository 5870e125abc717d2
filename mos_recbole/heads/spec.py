"""What a head declares about itself, beside its class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mos_recbole.heads.base import OutputHead
from mos_recbole.specs import Setting


@dataclass(frozen=True, eq=False)
class HeadSpec:
    """A head that models can be made of.

    Attributes:
        name: as in `--head`, lower case, such as "mos".
        label: how names of its models end, such as "MoS".
        head_class: takes `(n_items, width, *, item_bias, ...)`, and `n_layers` if it reads layers.
        settings: what users can set; each is an argument of the constructor.
        paper: where the head was published.
        baseline: whether the other heads are compared with this one.
        origin: a plugin's file and its SHA-256.
    """

    name: str
    label: str
    head_class: type[OutputHead]
    settings: tuple[Setting, ...] = ()
    paper: str = ""
    baseline: bool = False
    origin: tuple[Path, str] | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings' defaults by key."""
        return {setting.key: setting.default for setting in self.settings}

    def build(self, values: Any, n_items: int, width: int, n_layers: int = 1) -> OutputHead:
        """Returns the head that settings describe.

        Args:
            values: settings by key, `item_bias` among them; a mapping or RecBole's configuration.
            n_items: V, the padding item 0 included.
            width: d.
            n_layers: of the encoder, for a head that reads them.

        Raises:
            ValueError: the head does not take these values; the message names constructor arguments.
        """
        arguments = {setting.argument or setting.key: values[setting.key] for setting in self.settings}
        layers = {"n_layers": n_layers} if self.head_class.reads_layers else {}
        return self.head_class(n_items, width, item_bias=values["item_bias"], **arguments, **layers)
