"""LCR2S: a plain dual encoder distilled from a teacher that sees support sets.

Yan et al., Learning Comprehensive Representations with Richer Self for Text-to-Image Person
Re-identification, ACM MM 2023 (arXiv 2310.11210). The paper's text and code were not available.

| paper                                  | here                                                |
| -------------------------------------- | --------------------------------------------------- |
| richer model, trained first            | `tireid.methods.lcr2s.teacher.Lcr2sTeacher`         |
| multi-head attentional fusion          | `tireid.methods.lcr2s.fusion.SupportFusion`        |
| support sets                           | `tireid.data`, `tireid.methods.lcr2s.supports`      |
| lightweight model, the one evaluated   | `Lcr2s`                                             |
| feature and relation distillation      | `tireid.losses.distillation`                        |
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tireid.losses.distillation import FeatureDistillationLoss, RelationDistillationLoss
from tireid.methods.base import RetrievalModule, TrainingTerms
from tireid.methods.lcr2s.fusion import (
    check_range,
    check_weights,
    dual_terms,
    freeze_heads,
    is_count,
)
from tireid.structures import Features, Images, PairBatch, Scalar, TokenIds, TokenMaps, Valid, Words

TEACHER = "teacher."


class Lcr2s(RetrievalModule):
    """The student: a dual encoder with its own losses and a teacher's features to follow.

    The teacher is frozen and no part of the model: neither its weights nor its buffers change, and
    no checkpoint holds them. It is needed for training only; `set_teacher` brings it in.

    Args:
        num_train_pids: Number of training identities.
        dual: Makes the dual encoder from the arguments of any method (a partial).
        feature_distillation: Loss over `(student, teacher)` features of one modality.
        relation_distillation: Loss over both modalities of both.
        teacher: What `set_teacher` takes; or, for `joint`, makes an `Lcr2sTeacher` from the
            arguments of any method (a partial, otherwise unused).
        task_weight: Weight of the dual encoder's own terms.
        feature_weight: Weight of the feature distillation, both modalities summed. Paper: unknown.
        relation_weight: Weight of the relation distillation. Paper: unknown.
        warmup_epochs: Epochs in which both distillation weights rise linearly from near 0.
        init_from_teacher: Whether the student starts from the teacher's dual encoder. Paper: from
            scratch, by hearsay; here that means from the pretrained backbones.
        joint: Whether the teacher, starting from copies of the encoders, is trained along on its
            own terms, instead of being frozen. Checkpoints then keep it apart, under `teacher`.
        gradient_share_steps: Every so many steps, log what share each term has in the norm of the
            gradient at the student's features; 0: never. A term that reaches the encoders by
            other ways only has share 0.
        image_encoder: Of the dual encoder.
        text_encoder: Of the dual encoder.
        **base: Optimiser, schedule and rates, see `RetrievalModule`. Rates: the dual encoder's.

    Raises:
        ValueError: If settings contradict one another.
    """

    losses = ("feature_distillation", "relation_distillation")
    dual: RetrievalModule
    feature_distillation: FeatureDistillationLoss
    relation_distillation: RelationDistillationLoss

    def __init__(
        self,
        *,
        num_train_pids: int,
        dual: Callable[..., RetrievalModule],
        feature_distillation: FeatureDistillationLoss,
        relation_distillation: RelationDistillationLoss,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        teacher: nn.Module | Callable[..., RetrievalModule] | None = None,
        task_weight: float = 1.0,
        feature_weight: float = 1.0,
        relation_weight: float = 1.0,
        warmup_epochs: float = 0.0,
        init_from_teacher: bool = False,
        joint: bool = False,
        gradient_share_steps: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_range(warmup_epochs=warmup_epochs)
        check_weights(
            "the student",
            task_weight=task_weight,
            feature_weight=feature_weight,
            relation_weight=relation_weight,
        )
        if not is_count(gradient_share_steps, 0):
            raise ValueError(
                f"gradient_share_steps: expected an integer >= 0, got {gradient_share_steps!r}"
            )
        encoders = {"image_encoder": image_encoder, "text_encoder": text_encoder}
        copies = copy.deepcopy(encoders) if joint else {}
        self.dual = dual(num_train_pids=num_train_pids, **encoders, **base)
        self.training_only = tuple(f"dual.{name}" for name in self.dual.training_only)
        self.feature_dim = self.dual.feature_dim
        self.feature_distillation = feature_distillation
        self.relation_distillation = relation_distillation
        self.task_weight = task_weight
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.warmup_epochs = warmup_epochs
        self.warmup_steps = 0
        self.init_from_teacher = init_from_teacher
        self.joint = joint
        self.gradient_share_steps = gradient_share_steps
        if not task_weight:
            freeze_heads(self.dual)
        self._held: tuple[Any, ...] = ()  # the teacher, in a tuple so that it is no submodule
        if joint:
            self._add_teacher(teacher, num_train_pids, copies)
        elif isinstance(teacher, nn.Module):
            self.set_teacher(teacher)

    def _add_teacher(
        self,
        teacher: nn.Module | Callable[..., RetrievalModule] | None,
        num_train_pids: int,
        encoders: dict[str, nn.Module],
    ) -> None:
        """Make the teacher that is trained along, as a part of the model."""
        if self.init_from_teacher:
            raise ValueError("init_from_teacher: expected false with joint=true, got true")
        if teacher is None or isinstance(teacher, nn.Module):
            got = "none" if teacher is None else "one that is made"
            raise ValueError(f"joint: expected a teacher to be made, got {got}")
        self.teacher = teacher(num_train_pids=num_train_pids, **encoders)
        self.takes_supports = self.teacher.takes_supports
        alike = getattr(self.teacher, "_ddp_params_and_buffers_to_ignore", [])
        self._ddp_params_and_buffers_to_ignore = [TEACHER + name for name in alike]
        self.register_state_dict_post_hook(_leave_teacher_out)
        self.register_load_state_dict_post_hook(_miss_no_teacher)

    def set_teacher(self, teacher: nn.Module, origin: nn.Module | None = None) -> None:
        """Freeze a trained teacher and follow it.

        Args:
            teacher: Has `feature_dim`, the student's, and `enrich(batch, step)`: an `Lcr2sTeacher`,
                or a `TargetTable` of one.
            origin: Has the `dual`, like the student's, that `init_from_teacher` copies; None:
                `teacher` itself.

        Raises:
            ValueError: If the widths differ, or the teacher is trained along.
        """
        if self.joint:
            raise ValueError("teacher: expected none to be given to joint training, got one")
        if teacher.feature_dim != self.feature_dim:
            raise ValueError(
                f"teacher: expected features of {self.feature_dim}, as wide as the student's, "
                f"got {teacher.feature_dim}"
            )
        self._held = (teacher.eval().requires_grad_(False),)
        self.takes_supports = bool(getattr(teacher, "takes_supports", False))  # no table does
        if self.init_from_teacher:
            origin = teacher if origin is None else origin
            own = self.dual.state_dict()  # also products of LoRA, which begin as zero
            self.dual.load_state_dict(own | origin.get_submodule("dual").state_dict())

    def image_features(self, images: Images) -> Features:
        """Return the dual encoder's image features, not normalised."""
        return self.dual.image_features(images)

    def text_features(self, token_ids: TokenIds, valid: Valid, words: Words = None) -> Features:
        """Return the dual encoder's text features, not normalised."""
        return self.dual.text_features(token_ids, valid, words)

    def explain_images(self, images: Images) -> TokenMaps | None:
        """Return how the dual encoder weighs the image tokens."""
        return self.dual.explain_images(images)

    def explain_texts(
        self, token_ids: TokenIds, valid: Valid, words: Words = None
    ) -> TokenMaps | None:
        """Return how the dual encoder weighs the text tokens."""
        return self.dual.explain_texts(token_ids, valid, words)

    def image_contributions(
        self, images: Images, texts: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return what each image token adds to the dual encoder's score."""
        return self.dual.image_contributions(images, texts)

    def text_contributions(
        self, token_ids: TokenIds, valid: Valid, images: Features
    ) -> Float[Tensor, "batch length"] | None:
        """Return what each text token adds to the dual encoder's score."""
        return self.dual.text_contributions(token_ids, valid, images)

    def training_terms(self, batch: PairBatch, step: int) -> TrainingTerms:
        """The dual encoder's own terms and the distillation from the teacher, if it has weight.

        Raises:
            ValueError: If there is no teacher.
        """
        task = dual_terms(self.dual, batch, step, self.task_weight)
        terms = dict(task.terms)
        if not (self.joint or self.feature_weight or self.relation_weight):
            return task
        images, texts = self._teach(batch, step, terms)
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.feature_weight:
            distance = self.feature_distillation(task.images, images)
            distance = distance + self.feature_distillation(task.texts, texts)
            terms["distil_features"] = rise * self.feature_weight * distance
        if self.relation_weight:
            distance = self.relation_distillation(task.images, task.texts, images, texts)
            terms["distil_relations"] = rise * self.relation_weight * distance
        return TrainingTerms(terms, task.images, task.texts)

    def measurements(self, terms: TrainingTerms, step: int) -> dict[str, Tensor]:
        """Return, from time to time, the terms' shares of the gradient."""
        if not self.gradient_share_steps or step % self.gradient_share_steps:
            return {}
        shares = gradient_shares(terms.terms, (terms.images, terms.texts))
        return {f"gradient_share_{name}": share for name, share in shares.items()}

    def begin_training(self, steps: int | float, epochs: int) -> None:
        """Turn the epochs of the warm-up into steps."""
        self.warmup_steps = round(self.warmup_epochs * float(steps) / epochs)

    def parameter_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """Return the dual encoder's groups; a teacher that is trained along joins them."""
        groups = {name: list(group) for name, group in self.dual.parameter_groups().items()}
        if self.joint:
            for name, group in self.teacher.parameter_groups().items():
                groups[name] += group
        return {**groups}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a teacher that is trained along beside the model's own weights."""
        if self.joint:
            checkpoint["teacher"] = self.teacher.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore a teacher that is trained along."""
        if self.joint:
            self.teacher.load_state_dict(checkpoint["teacher"])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Lcr2s":
        # Where the model moves, its teacher moves too.
        for teacher in self._held:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _teach(
        self, batch: PairBatch, step: int, terms: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the teacher's features; add its own terms if it is trained along."""
        if self.joint:
            taught = self.teacher.training_terms(batch, step)
            terms |= {f"teacher_{name}": term for name, term in taught.terms.items()}
            return taught.images, taught.texts  # the losses detach them
        if not self._held:
            raise ValueError("teacher: expected a trained teacher, got none; use set_teacher")
        with torch.no_grad():
            return self._held[0].enrich(batch, step)


def gradient_shares(terms: Mapping[str, Tensor], features: tuple[Tensor, ...]) -> dict[str, Scalar]:
    """Return each term's share in the sum of the norms of all terms' gradients at the features.

    Args:
        terms: Weighted terms of a loss.
        features: Taken together as one vector.
    """
    norms: dict[str, Tensor] = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, features, retain_graph=True, allow_unused=True)
        parts = [g.float().flatten() for g in gradients if g is not None]
        norms[name] = torch.cat(parts).norm() if parts else features[0].new_zeros(())
    total = torch.stack(list(norms.values())).sum()
    return {name: norm / total.clamp(min=1e-30) for name, norm in norms.items()}


def _leave_teacher_out(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    for name in [name for name in state if name.startswith(prefix + TEACHER)]:
        del state[name]


def _miss_no_teacher(module: nn.Module, incompatible: Any) -> None:
    kept = [name for name in incompatible.missing_keys if not name.startswith(TEACHER)]
    incompatible.missing_keys[:] = kept
