# What people type. The build itself is CMake's (CMakePresets.json); each preset builds in
# build/<preset>. `make help` lists the targets.

MAKEFLAGS += --no-print-directory
PROGRAM = build/release/openledger
FUZZ_SECONDS ?= 60
DOMAIN ?= security

.DEFAULT_GOAL := build
.PHONY: build run base test test-slow fuzz bench deb lint format coverage clean help

build: ## build build/release/openledger
	@scripts/bootstrap run
	@scripts/build release

run: build ## set this machine up, build, train an adapter (DOMAIN=security) and show what it knows
	@scripts/demo/run $(DOMAIN)

base: build ## the base model from nothing, in hours: fetch, clean, train; stop it and go on at will
	@scripts/bootstrap base
	@scripts/base/make

test: ## tidy, then every test of a release and of an ASan + UBSan build
	@scripts/bootstrap test
	@scripts/test fast

test-slow: ## the rest: clang, -O0, threads, ARM under qemu, reference programs, long replays
	@scripts/bootstrap slow
	@scripts/test slow

fuzz: ## run every fuzz target for FUZZ_SECONDS (60) from its corpus
	@scripts/bootstrap slow
	@scripts/fuzz $(FUZZ_SECONDS)

bench: build ## measure this machine
	@$(PROGRAM) bench

deb: build ## a Debian package in build/
	@scripts/deb

lint: ## clang-format (check only), clang-tidy, cppcheck
	@scripts/bootstrap lint
	@scripts/lint

format: ## put the C code into the form of .clang-format
	@scripts/bootstrap lint
	@find src tests bench -name '*.[ch]' -exec clang-format -i {} +

coverage: ## which lines the tests reach, in build/coverage
	@scripts/bootstrap coverage
	@scripts/build coverage
	@ctest --test-dir build/coverage --output-on-failure
	@gcovr --root . --filter src/ --exclude '.*/(test|fuzz)_.*' build/coverage

clean: ## remove build/
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
