# What CI runs is what you run: make lint test drill.
.DEFAULT_GOAL := help
.PHONY: help drill test lint bench golden build fuzz e2e mutants histories reproduce release-rehearsal start-times moto mutations

TOOL     := go tool -modfile=tools/lint/go.mod
FUZZTIME ?= 30s
MOTO_PYTHON ?= tools/moto/venv/bin/python
# The packages whose tests take -update.
GOLDEN    = $(sort $(dir $(shell grep -rl --include='*_test.go' 'flag\.Bool."update"' .)))

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

drill: ## rehearse on this machine; SCENARIO=rotate|hmac|rollback|compromise|old-key-leak|truncation
	go run ./cmd/drill -scenario=$(or $(SCENARIO),rotate)

test: ## install what the tests need and is missing, run them all
	tools/deps.sh git curl postgresql nodejs npm chromium-headless-shell
	npm ci --prefix tools/axe --ignore-scripts --no-audit --no-fund --silent
	@python3 -c 'import moto.server' 2>/dev/null || echo 'NOT TESTED here: moto is missing, so the KMS of the tests is not compared with it; make moto does that, as a job of CI does'
	go test -shuffle=on -timeout=30m ./...

moto: $(MOTO_PYTHON) ## compare the KMS of the tests with moto, installed in a folder of its own
	MOTO_PYTHON=$(abspath $(MOTO_PYTHON)) go test -count=1 -run='^TestAgainstMoto$$' -v ./internal/awskms

tools/moto/venv/bin/python: tools/moto/requirements.txt
	tools/deps.sh python3-venv
	python3 -m venv --clear tools/moto/venv
	tools/moto/venv/bin/pip install --quiet --no-deps --only-binary=:all: --disable-pip-version-check -r tools/moto/requirements.txt
	touch $@

lint: ## gofmt, vet, staticcheck, actionlint, shellcheck
	tools/deps.sh git shellcheck
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l) && [ -z "$$files" ] || { echo "gofmt -w $$files"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) actionlint -color $(wildcard .github/workflows/*.yml examples/*.yml)
	shellcheck .ci/run $$(git ls-files -co --exclude-standard '*.sh')

e2e: ## play every example and reusable workflow under a runner (act), with the result of each job
	tools/deps.sh git curl postgresql
	go test -count=1 -run='^TestRunner$$' -v ./actions/ | grep -E '^ +(examples/|[a-z]+\.yml)|^ok|^FAIL|^---|_test.go'

mutations: ## change every value of registry, archive and records in 500 states; each change must be refused (some minutes)
	go test -count=1 -timeout=60m -run='^TestEveryMutationIsRefused$$' -v ./internal/rotation -every=10 | grep -E 'states|passes|^(ok|FAIL|---)'

bench: ## measure a verification, part by part
	go run ./cmd/bench

golden: ## rewrite the golden files; review the diff
	@[ -n "$(GOLDEN)" ] || { echo "no test has golden files"; exit 1; }
	go test $(GOLDEN) -update

build: ## build every action into bin/
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o bin/ ./actions/...

release-rehearsal: ## play release.yml under a runner (act): builders, digests, bill of materials, commit, release
	tools/deps.sh git curl jq
	go test -count=1 -timeout=60m -run='^TestRelease$$' -release -v ./actions/

start-times: ## measure how long the actions take to start, built from source and released
	tools/deps.sh git curl
	go test -run='^$$' -bench='^BenchmarkStart$$' -benchtime=5x -timeout=60m ./actions/ | grep -E 's/start|^FAIL|^ok'

reproduce: ## build the release twice, in two folders, and compare every digest
	tools/reproduce.sh

fuzz: ## fuzz every target for FUZZTIME (30s)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file func; do \
		go test -run='^$$' -fuzz="^$${func#func }\$$" -fuzztime=$(FUZZTIME) "$${file%/*}" </dev/null || exit 1; done

histories: ## play SEQUENCES (2000) random histories of rotations on the wire (half an hour)
	go test -count=1 -timeout=3h -run='^TestModel$$' -v ./actions -sequences=$(or $(SEQUENCES),2000)

mutants: ## take each policy rule out in turn: does a test notice? (half an hour)
	go run ./tools/mutants
