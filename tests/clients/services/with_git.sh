# git over "smart" HTTP: what it asks by GET, and what it gets and sends by POST.
set -e
repository=$1/repo.git file=$2
shift 2
cd "$(mktemp -d)"
export GIT_AUTHOR_NAME=service GIT_AUTHOR_EMAIL=service@example.com
export GIT_COMMITTER_NAME=service GIT_COMMITTER_EMAIL=service@example.com
# What it sends does not get smaller.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.compression GIT_CONFIG_VALUE_0=0
for case in "$@"; do
  case $case in
    # A listing asks what the server can do by GET, then for the references by POST.
    get | post) printf '%s %s\n' "$case" "$(git ls-remote --symref "$repository" HEAD | head -1 | cut -f1)" ;;
    download)
      git clone -q "$repository" clone
      printf 'download %s\n' "$(sha256sum <clone/large | cut -d' ' -f1)" ;;
    upload)
      cp "$file" clone/upload
      printf 'more' >>clone/upload
      git -C clone add upload
      git -C clone commit -q -m more
      git -C clone push -q origin HEAD:refs/heads/pushed
      printf 'upload %s\n' "$(git -C clone rev-parse HEAD:upload)" ;;
  esac
done
