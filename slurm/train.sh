# Read by the sbatch files beside it: train $EXPERIMENT by the tasks of this job, in one run folder.
# A job that was asked to stop (exit code 75) is queued again, and goes on where it was.
export HF_HOME=${HF_HOME:-$CACHE/huggingface}
export HF_HUB_OFFLINE=1 # nodes often have no network: `tireid fetch` has filled HF_HOME before
SEED=${SEED:-1}
code=0
srun --kill-on-bad-exit=0 "${TIREID:-.venv/bin/tireid}" train "experiment=$EXPERIMENT" \
  "dataset.root=$ROOT" "paths.cache_dir=$CACHE/tireid" trainer=gpu strategy=slurm "seed=$SEED" \
  "hydra.run.dir=runs/reproduce/$SLURM_JOB_NAME/seed$SEED" "$@" || code=$?
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
