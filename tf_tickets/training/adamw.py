"""AdamW: Adam with decoupled weight decay."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

# Of Keras' dense layers and of its LayerNorm: what BERT's fine-tuning does not decay.
UNDECAYED = ("bias", "gamma", "beta")


class AdamW(keras.optimizers.legacy.Adam):
    """Adam with bias correction and decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    A step of learning rate η is θ ← (1 − η·weight_decay)·θ − η·m̂ / (√v̂ + ε), Algorithm 2 with
    all of η as its schedule, as in PyTorch. Gradients are dense; those of several replicas are
    summed before anything else.

    Args:
      learning_rate: η; assign to the attribute of that name to follow a schedule.
      weight_decay: share of a weight that a step of learning rate 1 would take away.
      undecayed: names of variables that are not decayed, without their layers' names.
      clip_value: gradients, as summed over replicas, are cut to [−clip_value, clip_value];
        None leaves them.
      beta_1, beta_2: the averages' decay.
      epsilon: ε, added to √v̂ after its bias is corrected, which in Keras' Adam it is before.
    """

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        undecayed: Sequence[str] = UNDECAYED,
        clip_value: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "AdamW",
    ):
        clipping = {} if clip_value is None else {"clipvalue": clip_value}
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **clipping)
        self._weight_decay = weight_decay
        self._undecayed = frozenset(undecayed)

    def get_config(self):
        config = super().get_config()
        config["clip_value"] = config.pop("clipvalue", None)
        for unsettable in ("amsgrad", "decay"):
            del config[unsettable]
        return config | {
            "weight_decay": self._weight_decay,
            "undecayed": sorted(self._undecayed),
        }

    def _prepare_local(self, var_device, var_dtype, apply_state):
        super()._prepare_local(var_device, var_dtype, apply_state)
        coefficients = apply_state[var_device, var_dtype]
        coefficients["epsilon"] *= tf.sqrt(1 - coefficients["beta_2_power"])
        coefficients["kept"] = 1 - coefficients["lr_t"] * self._weight_decay

    def _resource_apply_dense(self, grad, var, apply_state=None):
        if self._weight_decay and not self._undecayed.intersection(_path(var)):
            kept = apply_state[var.device, var.dtype.base_dtype]["kept"]
            decay = [var.assign(var * kept)]
        else:
            decay = []
        with tf.control_dependencies(decay):
            return super()._resource_apply_dense(grad, var, apply_state)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        raise NotImplementedError(f"{var.name}: AdamW takes dense gradients")


def _path(variable):
    """The parts of a variable's name; a replica's copy has one more than the variable."""
    return variable.name.partition(":")[0].split("/")
