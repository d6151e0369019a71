# npm: an installation gets a package's description and archive, and posts what is installed for an audit; publishing puts.
base=$1 file=$2
shift 2
cd "$(mktemp -d)"
printf '{"name": "service", "version": "1.0.0"}' >package.json
# What an installation before has left is no proof.
export npm_config_cache="$PWD/cache"
export npm_config_registry="$base/npm/"
said=$(npm install --no-fund demo@1)
for case in "$@"; do
  case $case in
    get) printf 'get %s\n' "$(head -1 node_modules/demo/package.json)" ;;
    post) printf 'post %s\n' "$(printf '%s\n' "$said" | tail -1)" ;;
    download) printf 'download %s\n' "$(sha256sum <node_modules/demo/large | cut -d' ' -f1)" ;;
    upload)
      mkdir package
      cp "$file" package/large
      printf '{"name": "published", "version": "1.0.0"}' >package/package.json
      # npm does not publish without a token: any words, which Sidekey replaces.
      printf '//%s/npm/:_authToken=any-words' "${base#https://}" >package/.npmrc
      printf 'upload %s\n' "$(cd package && npm publish | tail -1)" ;;
  esac
done
