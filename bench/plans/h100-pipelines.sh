# Components alone, then whole pipelines that no card has seen; 585 s in all. Extra words go to each series (--tiny ...).
# PLAN=h100-alone-more SERIES=second does what the first call left.
python3 -m bench.engines.diffusers.alone "bench/plans/${PLAN:-h100-alone}.json" --out "$OUT" --budget "${ALONE:-190}" "$@" 2>&1
for plan in ${SERIES:-first second}; do
  python3 -m bench.engines.diffusers.pipeline_series "bench/plans/h100-unseen-$plan.json" --out "$OUT/$plan" \
    --budget $((${TOTAL:-575} - SECONDS)) "$@" 2>&1
done
