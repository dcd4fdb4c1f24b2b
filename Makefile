# Two commands: `make demo` shows the main job, `make test` runs every check.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mooring
export CARGO_TARGET_DIR ?= $(CACHE)/target

.PHONY: demo test bench fuzz

# The story on three nodes of a LAN in network namespaces. `make demo STAY=1` stays up afterwards.
demo:
	tests/setup
	cargo build --workspace --bins
	$(CARGO_TARGET_DIR)/debug/demo $(if $(STAY),--stay)

test:
	.ci/run

# Every fuzz target for ten minutes, or `make fuzz SECONDS=60`.
fuzz:
	tests/fuzz/run $(or $(SECONDS),600)

# Every benchmark, with its peer in the same run.
bench:
	tests/setup
	cargo build --release --workspace --bins
	cargo bench --package mooring-tests
