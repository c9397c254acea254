# CFN-SR: `make help` lists what can be made.

PYTHON  ?= python3
JOBS    ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)

# Where things lie. Without RAVDESS=DIR everything is made from the synthetic sample.
RAVDESS ?=
CACHE   ?= $(if $(RAVDESS),data/ravdess-cache,data/sample-cache)
RUNS    ?= runs
OUT     ?= report

# What is trained by `make train` and `make cv`; ARGS goes to train.py as it is.
FOLD    ?= 0
FOLDS   ?= 0 1 2 3 4
MODEL   ?= cfn_sr
PRESET  ?= paper
EPOCHS  ?= $(if $(filter tiny,$(PRESET)),16)
ARGS    ?=

# Rows of the paper's tables, each trained on FOLDS, TRAIN_JOBS runs at once: a tiny network needs
# one core, a full one a GPU.
TABLE1 = video_resnext50 audio_mfcc_cnn averaging multiplicative multiplication concat_fc mcbp mmtm msaf erann cfn_sr
TABLE2 = cfn_sr cfn_sr_no_cross_modal cfn_sr_video_to_audio cfn_sr_no_self_attention cfn_sr_no_residual
UNIMODAL = video_resnext50 audio_mfcc_cnn erann
FUSION = $(filter-out $(UNIMODAL),$(sort $(TABLE1) $(TABLE2)))
TRAIN_JOBS ?= $(if $(filter tiny,$(PRESET)),$(JOBS),1)

# The demo: clips an actor of the sample, and epochs.
DEMO_CLIPS  ?= 8
DEMO_EPOCHS ?= 16

$(if $(strip $(FOLDS)),,$(error FOLDS is empty, expected folds such as 0 1 2 3 4))

READY = .venv/.ready
RUN   = .venv/bin/python
TRAIN = $(RUN) train.py --cache '$(CACHE)' --runs '$(RUNS)' --preset $(PRESET) $(if $(EPOCHS),--epochs $(EPOCHS)) --resume $(ARGS)
# The report's mistakes show faces where the cache is finished.
EVALUATE = set -- --runs '$(RUNS)' --out '$(OUT)'; \
	[ ! -f '$(CACHE)/manifest.json' ] || set -- "$$@" --cache '$(CACHE)'; $(RUN) -m evaluate "$$@"
jobs_of = $(foreach model,$(1),$(foreach fold,$(FOLDS),row/$(model)/$(fold)))

# Goals run one after the other, even under -j; only the runs of a table go side by side.
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif

.DEFAULT_GOAL := help
.PHONY: help setup features ravdess train cv table1 table2 rows evaluate robustness demo test lint bench-features bench-stream bench-train bench-predict fuzz clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with everything in it (about 6 GB: torch comes with CUDA)

$(READY): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[features,share,weights,report,export,cluster,dev]'
	@touch $@

features: $(READY) ## shards from RAVDESS=DIR in CACHE=DIR, or from the synthetic sample
ifeq ($(RAVDESS),)
	$(RUN) -m preprocess.sample --out data/sample --jobs $(JOBS)
	$(RUN) -m preprocess --raw data/sample --cache '$(CACHE)' --jobs $(JOBS) --waveform
else
	$(RUN) -m preprocess --raw '$(RAVDESS)' --cache '$(CACHE)' --jobs $(JOBS) --waveform
endif

ifeq ($(filter ravdess,$(MAKECMDGOALS))$(DIR),ravdess) # before anything is installed
$(error say where to: make ravdess DIR=/path/to/ravdess)
endif
ravdess: $(READY) ## download and verify RAVDESS into DIR=DIR (12.4 GiB)
	$(RUN) -m preprocess.download --out '$(DIR)' $(ARGS)

train: $(READY) ## FOLD=K of MODEL=NAME from CACHE=DIR
	$(TRAIN) --model $(MODEL) --fold $(FOLD)

cv: $(call jobs_of,$(MODEL)) ## the paper's chain on FOLDS: video, audio, then MODEL from their weights

table1: $(READY) ## every row of the paper's Table 1, then the report
	@$(call train_table,$(TABLE1))

table2: $(READY) ## every row of its Table 2, then the report
	@$(call train_table,$(TABLE2))

# A row that fails does not keep the others from being trained and reported.
define train_table
status=0; \
$(if $(filter 1,$(TRAIN_JOBS)),,TQDM_DISABLE=1) $(MAKE) --no-print-directory --keep-going --jobs=$(TRAIN_JOBS) $(call jobs_of,$(1)) || status=$$?; \
{ $(EVALUATE); } || status=$$?; \
exit $$status
endef

rows: ## every run of both tables as a goal, one a line, those that others start from first
	@printf '%s\n' $(call jobs_of,$(UNIMODAL) $(FUSION))

# A network that fuses starts from the weights of its fold's unimodal networks, as in the paper.
from = --init-$(1) '$(RUNS)/$(2)/fold_$(*F)/last.pt'
row/%: $(READY)
	@$(TRAIN) --model $(*D) --fold $(*F) $(if $(filter $(*D),$(FUSION)), \
		$(call from,video,video_resnext50) $(call from,audio,audio_mfcc_cnn))

$(foreach fold,$(FOLDS),$(foreach model,$(FUSION),$(eval \
	row/$(model)/$(fold): row/video_resnext50/$(fold) row/audio_mfcc_cnn/$(fold))))

robustness: $(READY) ## test RUNS=DIR again, with sound or picture of CACHE=DIR missing or worse
	$(RUN) -m evaluate.robustness --runs '$(RUNS)' --cache '$(CACHE)'

evaluate: $(READY) ## report in OUT=DIR from RUNS=DIR, with faces from CACHE=DIR
	@$(EVALUATE)

demo: $(READY) ## sample -> features -> five folds of a tiny network -> report
	$(RUN) -m preprocess.sample --out demo/sample --clips-per-actor $(DEMO_CLIPS) --jobs $(JOBS)
	$(RUN) -m preprocess --raw demo/sample --cache demo/cache --jobs $(JOBS)
	@for fold in $(FOLDS); do \
		$(MAKE) --no-print-directory train FOLD=$$fold CACHE=demo/cache RUNS=demo/runs PRESET=tiny EPOCHS=$(DEMO_EPOCHS) || \
			{ echo "make clean removes what a demo of another size left" >&2; exit 1; }; \
	done
	$(RUN) -m evaluate --runs demo/runs --out demo/report --cache demo/cache
	@echo "The report: $(CURDIR)/demo/report/report.html"

test: $(READY) ## the tests
	$(RUN) -m pytest

lint: $(READY) ## ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench-features: $(READY) ## CPU seconds a clip beside those of decoding alone
	$(RUN) -m benchmarks.bench_features $(ARGS)

bench-stream: $(READY) ## clips a second from a cache beside a plain copy
	$(RUN) -m benchmarks.bench_stream $(ARGS)

bench-train: $(READY) ## training clips a second beside a plain trainer
	$(RUN) -m benchmarks.bench_train $(ARGS)

bench-predict: $(READY) ## seconds a clip of the full-size network's predictions
	$(RUN) -m benchmarks.bench_predict $(ARGS)

fuzz: $(READY) ## three minutes of damaged shards: clean errors, no crash
	$(RUN) -m benchmarks.fuzz_shards

clean: ## remove what the demo made
	rm -rf demo
