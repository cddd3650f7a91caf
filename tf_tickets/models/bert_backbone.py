"""keras-nlp's BERT with the exact GELU where needed, and with a name for each weight."""

import functools

import tf_keras as keras

from tf_tickets.compat.silent_imports import import_keras_nlp

# The parts of a TransformerEncoder whose variables keras-nlp names after the encoder alone.
_UNNAMED_PARTS = (
    "_self_attention_layer_norm",
    "_feedforward_layer_norm",
    "_feedforward_intermediate_dense",
    "_feedforward_output_dense",
)


@functools.cache
def backbone_class():
    """The class of our backbones, a `keras_nlp.models.BertBackbone`; imports keras-nlp.

    To load one that Keras saved, call this first: it registers the class.
    """
    keras_nlp = import_keras_nlp()

    @keras.saving.register_keras_serializable("tf_tickets")
    class BertBackbone(keras_nlp.models.BertBackbone):
        """As keras-nlp's, which has the approximate GELU only, and several weights of a name.

        Args:
          exact_gelu: whether the feed-forward blocks have the GELU with the error function.
          **options: keras-nlp's arguments.
        """

        def __init__(self, exact_gelu=False, **options):
            super().__init__(**options)
            self.exact_gelu = exact_gelu
            for encoder in self.transformer_layers:
                if exact_gelu:
                    # The first is saved with the encoder, the second is the one that runs.
                    encoder.activation = keras.activations.gelu
                    encoder._feedforward_intermediate_dense.activation = keras.activations.gelu
                for part in _UNNAMED_PARTS:
                    _name_variables(encoder, getattr(encoder, part))

        def get_config(self):
            return super().get_config() | {"exact_gelu": self.exact_gelu}

    return BertBackbone


def _name_variables(encoder, part):
    """Gives `transformer_layer_0/bias` a name such as `transformer_layer_0/<part>/bias`.

    Keras 2 names variables once and for all when they are made, and keras-nlp makes these outside
    of their layers' name scopes. Tickets and weight files know weights by their names.
    """
    for variable in part.weights:
        name = f"{encoder.name}/{part.name}/{variable.name.rsplit('/', 1)[1].partition(':')[0]}"
        # Under a distribution strategy each replica has its own.
        for replica, copy in enumerate(getattr(variable, "values", [variable])):
            copy._handle_name = f"{name}/replica_{replica}:0" if replica else f"{name}:0"
