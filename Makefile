# Thin: the work is in .ci/ and sample-traces/tools/.
.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-record bench-ceilings bench-diff bench-viewers fuzz coverage torn unharmed soak deny dist samples docs-pictures deb icons setup lint clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 22

demo: ## record a real llama.cpp and look at it
	@.ci/demo.sh

test: ## all checks and tests, as in CI
	@.ci/test.sh

bench: ## print the figures: overhead, file size, opening, exports, frames
	@.ci/bench.sh

bench-record: ## print what recording costs, against our goals; ARGS="--only decode --soak 600"
	@.ci/bench-record.sh $(ARGS)

bench-ceilings: ## print what `llmtrace calibrate` finds beside sysbench; ARGS="ROUNDS"
	@.ci/bench-ceilings.sh $(ARGS)

bench-diff: ## record pairs of the same run, and count what `llmtrace diff` takes for a change; ARGS="PAIRS"
	@.ci/bench-diff.sh $(ARGS)

bench-viewers: ## open a trace beside the Perfetto UI; ARGS="OP_SPANS ROUNDS"
	@.ci/bench-viewers.sh $(ARGS)

fuzz: ## fuzz what reads strangers' bytes; TIME=SECONDS a target, ARGS="open tables"
	@TIME=$(TIME) .ci/fuzz.sh $(ARGS)

coverage: ## which lines of `format` its tests run; at least 90 %
	@.ci/coverage.sh

torn: ## kill the recorder of a real llama.cpp 200 times (KILLS=N); every file must open
	@.ci/torn.sh

unharmed: ## attach to a server under load 100 times (CYCLES=N), and end targets badly; it must not notice
	@.ci/unharmed.sh

soak: ## record a real llama.cpp for MINUTES (30), and plot what the recorder takes
	@.ci/soak.sh

deny: ## licences, duplicates, sources and advisories of dependencies
	@.ci/deny.sh --prepare && .ci/deny.sh

dist: ## build archives, debs, checksums and the bill of materials in target/dist
	@.ci/dist.sh

samples: ## record sample-traces/*.llmtrace again
	@sample-traces/tools/record-samples.sh

docs-pictures: ## draw the pictures of the documentation anew
	@.ci/docs-pictures.sh

deb: ## build the Debian packages into target/debian
	@.ci/deb.sh

icons: ## draw the icon's PNGs anew from its SVG
	@.ci/icons.sh

setup: ## install the system packages for building and testing
	@.ci/setup.sh test

lint: ## format, clippy and shellcheck only
	@.ci/lint.sh

clean: ## remove what was built (not the cached Python environment)
	@cargo clean
