# CFN-SR: `make help` lists all targets.

PYTHON  ?= python3
# nproc obeys OMP_NUM_THREADS, which is not about jobs.
JOBS    ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)

# Folders. Without RAVDESS=DIR, features are made from the synthetic sample.
RAVDESS ?=
REAL    := $(filter real,$(MAKECMDGOALS))
CACHE   ?= $(if $(REAL),data/landmark-cache,$(if $(RAVDESS),data/ravdess-cache,data/sample-cache))
RUNS    ?= $(if $(REAL),runs-landmarks,runs)
OUT     ?= $(if $(REAL),report-landmarks,report)

# What `make train` and `make cv` train; ARGS is passed to train.py. MODEL may be FILE.py:NAME, of which
# the encoders in INIT start from the unimodal networks; leave INIT empty if it has none of them.
FOLD    ?= 0
FOLDS   ?= 0 1 2 3 4
SEEDS   ?= 0
MODEL   ?= cfn_sr
INIT    ?= video audio
PRESET  ?= $(if $(REAL),landmarks,paper)
LANDMARKS = $(filter landmarks,$(PRESET))
EPOCHS  ?= $(if $(filter tiny,$(PRESET)),16)
ARGS    ?=

# The rows of the paper's tables, each trained on FOLDS with SEEDS. TRAIN_JOBS runs are trained at once: a
# small network needs one core, a full-size one a GPU.
TABLE1 = video_resnext50 audio_mfcc_cnn averaging multiplicative multiplication concat_fc mcbp mmtm msaf erann cfn_sr
TABLE2 = cfn_sr cfn_sr_no_cross_modal cfn_sr_video_to_audio cfn_sr_no_self_attention cfn_sr_no_residual
UNIMODAL = video_resnext50 audio_mfcc_cnn erann
OWN    = $(if $(findstring .py:,$(MODEL)),$(lastword $(subst :, ,$(MODEL))))
FUSION = $(filter-out $(UNIMODAL),$(sort $(TABLE1) $(TABLE2))) $(if $(INIT),$(OWN))
TRAIN_JOBS ?= $(if $(filter tiny landmarks,$(PRESET)),$(JOBS),1)

# The weights that come with the project, and whose facial points they were trained on.
WEIGHTS ?= cfn_sr audio_mfcc_cnn
POINTS  ?= the 68-point predictor of dlib

# The demo: clips per actor of the sample, and epochs.
DEMO_CLIPS  ?= 8
DEMO_EPOCHS ?= 16

$(if $(strip $(FOLDS)),,$(error FOLDS is empty, expected folds such as 0 1 2 3 4))
$(if $(strip $(SEEDS)),,$(error SEEDS is empty, expected random seeds such as 0 1 2))

# Several seeds are kept in RUNS/seed_<s>; a single one in RUNS itself.
ROOTS = $(if $(word 2,$(SEEDS)),$(SEEDS:%=row/seed_%),row)
RUNS_OF_SEEDS = $(if $(word 2,$(SEEDS)),$(SEEDS:%='$(RUNS)/seed_%'),'$(RUNS)')
# Of a row's target: its subfolder, such as seed_1, or nothing; and its seed.
seed_folder = $(filter seed_%,$(subst /, ,$*))
seed = $(or $(seed_folder:seed_%=%),$(SEEDS))
runs_folder = $(RUNS)$(seed_folder:%=/%)

# Messages and `make -n` speak of the flags of commands; this is printed with them.
export CFNSR_NOTE_ON_FLAGS = with make, set --cache by CACHE=DIR, --raw by RAVDESS=DIR, --runs by RUNS=DIR, --out by OUT=DIR, \
	--jobs by JOBS=N, --fold, --model, --preset and --epochs by FOLD, MODEL, PRESET and EPOCHS, --seed by SEEDS, others by ARGS="--lr 0.001"
ifeq ($(MAKELEVEL),0)
$(if $(findstring n,$(firstword -$(MAKEFLAGS))),$(info note: $(CFNSR_NOTE_ON_FLAGS)))
endif

READY = .venv/.ready
RUN   = .venv/bin/python
# Facial landmarks have recipes of their own; ARGS may name another.
recipe = $(if $(LANDMARKS),--recipe $(if $(filter audio_mfcc_cnn,$(1)),modern,$(if $(filter $(1),$(FUSION)),fusion,landmarks)))
train = $(RUN) train.py --cache '$(CACHE)' --runs '$(runs_folder)' --preset $(PRESET) --model '$(if $(filter $(OWN),$(1)),$(MODEL),$(1))' --fold $(2) --seed $(seed) \
	$(recipe) $(if $(EPOCHS),--epochs $(EPOCHS)) --resume $(ARGS)
# The report shows faces of mistakes if the cache is finished.
EVALUATE = set -- --runs $(RUNS_OF_SEEDS) --out '$(OUT)'; \
	[ ! -f '$(CACHE)/manifest.json' ] || set -- "$$@" --cache '$(CACHE)'; $(RUN) -m evaluate "$$@"
# The runs of networks; those of waveforms have no preset landmarks.
jobs_of = $(foreach root,$(ROOTS),$(foreach model,$(filter-out $(if $(LANDMARKS),erann),$(1)),$(foreach fold,$(FOLDS),$(root)/$(model)/$(fold))))

# Targets run one after another, even under -j; only the runs of a table run in parallel.
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif

.DEFAULT_GOAL := help
.PHONY: help setup features ravdess real train cv table1 table2 rows evaluate robustness weights weights-check demo test test-gpu lint bench-features bench-stream bench-train bench-predict fuzz clean

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with all dependencies (about 6 GB: torch comes with CUDA)

$(READY): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[features,landmarks,share,weights,report,export,cluster,dev]'
	@touch $@

features: $(READY) ## extract features to CACHE=DIR from RAVDESS=DIR (default: the synthetic sample)
ifeq ($(RAVDESS),)
	$(RUN) -m preprocess.sample --out data/sample --jobs $(JOBS)
	$(RUN) -m preprocess --raw data/sample --cache '$(CACHE)' --jobs $(JOBS) --waveform
else
	$(RUN) -m preprocess --raw '$(RAVDESS)' --cache '$(CACHE)' --jobs $(JOBS) --waveform
endif

ifeq ($(DIR),) # before anything is installed
$(if $(filter ravdess real,$(MAKECMDGOALS)),$(error DIR is not set: make $(filter ravdess real,$(MAKECMDGOALS)) DIR=/path/to/ravdess))
endif
ravdess: $(READY) ## download RAVDESS to DIR=PATH and verify it (12.4 GiB)
	$(RUN) -m preprocess.download --out '$(DIR)' $(ARGS)

real: $(READY) ## train and report MODEL on voices and facial landmarks, downloaded to DIR=PATH (0.6 GB)
	$(RUN) -m preprocess.download --out '$(DIR)' --audio --landmarks --no-video --missing
	$(RUN) -m preprocess --raw '$(DIR)' --landmarks '$(DIR)' --modality landmarks --audio wav --cache '$(CACHE)' --jobs $(JOBS)
	@$(call train_table,$(or $(OWN),$(MODEL)))

train: $(READY) ## train FOLD=K of MODEL=NAME from CACHE=DIR with seed SEEDS=S
	$(call train,$(or $(OWN),$(MODEL)),$(FOLD))

cv: $(call jobs_of,$(or $(OWN),$(MODEL))) ## train MODEL on FOLDS with SEEDS="0 1 2", initialized from video and audio networks trained first, as in the paper

table1: $(READY) ## train every row of the paper's Table 1, then write the report
	@$(call train_table,$(TABLE1))

table2: $(READY) ## train every row of the paper's Table 2, then write the report
	@$(call train_table,$(TABLE2))

# If a row fails, the others are still trained and reported.
define train_table
status=0; \
$(if $(filter 1,$(TRAIN_JOBS)),,TQDM_DISABLE=1) $(MAKE) --no-print-directory --keep-going --jobs=$(TRAIN_JOBS) \
	CACHE='$(CACHE)' RUNS='$(RUNS)' PRESET=$(PRESET) MODEL='$(MODEL)' $(call jobs_of,$(1)) || status=$$?; \
{ $(EVALUATE); } || status=$$?; \
exit $$status
endef

rows: ## list all runs of both tables as make targets, unimodal first, for job arrays
	@printf '%s\n' $(call jobs_of,$(UNIMODAL)) $(call jobs_of,$(FUSION))

# A fusion network starts from the weights of its fold's unimodal networks, as in the paper.
video_network = video_resnext50
audio_network = audio_mfcc_cnn
parts_of = $(if $(filter $(OWN),$(1)),$(INIT),video audio)
from = --init-$(1) '$(runs_folder)/$(2)/fold_$(*F)/last.pt'
row/%: $(READY)
	@$(call train,$(notdir $(*D)),$(*F)) $(if $(filter $(notdir $(*D)),$(FUSION)), \
		$(foreach part,$(call parts_of,$(notdir $(*D))),$(call from,$(part),$($(part)_network))))

$(foreach root,$(ROOTS),$(foreach fold,$(FOLDS),$(foreach model,$(FUSION),$(foreach part,$(call parts_of,$(model)),$(eval \
	$(root)/$(model)/$(fold): $(root)/$($(part)_network)/$(fold))))))

robustness: $(READY) ## re-evaluate the runs in RUNS=DIR with missing or degraded inputs from CACHE=DIR
	@for runs in $(RUNS_OF_SEEDS); do $(RUN) -m evaluate.robustness --runs "$$runs" --cache '$(CACHE)' $(ARGS) || exit; done

evaluate: $(READY) ## write a report on RUNS=DIR to OUT=DIR (with faces if CACHE=DIR exists)
	@$(EVALUATE)

weights: $(READY) ## write the weights of the runs of WEIGHTS in RUNS=DIR to evaluate/weights
	@for model in $(WEIGHTS); do \
		set --; for fold in $(FOLDS); do set -- "$$@" "$(RUNS)/$$model/fold_$$fold/last.pt"; done; \
		$(RUN) -m evaluate.export --checkpoint "$$@" --safetensors "evaluate/weights/$$model" --half --points '$(POINTS)' || exit; \
	done

weights-check: $(READY) ## test the weights that come with the project on CACHE=DIR
	$(RUN) -m evaluate.weights_check --cache '$(CACHE)'

demo: $(READY) ## run the whole pipeline on the synthetic sample
	$(RUN) -m preprocess.sample --out demo/sample --clips-per-actor $(DEMO_CLIPS) --jobs $(JOBS)
	$(RUN) -m preprocess --raw demo/sample --cache demo/cache --jobs $(JOBS)
	@for fold in $(FOLDS); do \
		$(MAKE) --no-print-directory train FOLD=$$fold CACHE=demo/cache RUNS=demo/runs PRESET=tiny EPOCHS=$(DEMO_EPOCHS) || \
			{ echo "If the error above is about other settings, run: make clean" >&2; exit 1; }; \
	done
	$(RUN) -m evaluate --runs demo/runs --out demo/report --cache demo/cache
	@echo "The report: $(CURDIR)/demo/report/report.html"

test: $(READY) ## run the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=$(JOBS) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(ARGS)

test-gpu: $(READY) ## run the GPU tests and the CUDA training benchmark; print one table
	$(RUN) -m pytest tests/gpu $(ARGS)

lint: $(READY) ## check style with ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench-features: $(READY) ## benchmark feature extraction against plain decoding
	$(RUN) -m benchmarks.bench_features $(ARGS)

bench-stream: $(READY) ## benchmark reading a cache against a plain copy
	$(RUN) -m benchmarks.bench_stream $(ARGS)

bench-train: $(READY) ## benchmark training against a plain trainer
	$(RUN) -m benchmarks.bench_train $(ARGS)

bench-predict: $(READY) ## benchmark full-size prediction
	$(RUN) -m benchmarks.bench_predict $(ARGS)

fuzz: $(READY) ## open 20,000 damaged shards; expect errors but no crash
	$(RUN) -m benchmarks.fuzz_shards $(ARGS)

clean: ## remove the demo's files
	rm -rf demo
