# npm: an installation gets a package's description and archive, and posts what is installed for an audit.
base=$1
shift 2
cd "$(mktemp -d)"
printf '{"name": "service", "version": "1.0.0"}' >package.json
# What an installation before has left is no proof.
export npm_config_cache="$PWD/cache"
said=$(npm install --no-fund --registry "$base/npm/" demo@1)
for case in "$@"; do
  case $case in
    get) printf 'get %s\n' "$(head -1 node_modules/demo/package.json)" ;;
    post) printf 'post %s\n' "$(printf '%s\n' "$said" | tail -1)" ;;
    download) printf 'download %s\n' "$(sha256sum <node_modules/demo/large | cut -d' ' -f1)" ;;
  esac
done
