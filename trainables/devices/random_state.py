"""State of the random numbers that a pass on a device draws."""

import torch

from trainables.devices.counting import uncounted


class RandomState:
    """The state of torch's global generators that a pass on the device draws from."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # This is not the run's memory, so predictions do not include it.
        with uncounted():
            self._host = torch.get_rng_state()
            self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        with uncounted():
            torch.set_rng_state(self._host)
            if self._cuda is not None:
                torch.cuda.set_rng_state(self._cuda, self._device)
