# wget, with its defaults.
base=$1 file=$2
shift 2
for case in "$@"; do
  case $case in
    get) printf 'get %s\n' "$(wget -q -O - "$base/small")" ;;
    post) printf 'post %s\n' "$(wget -q -O - --post-data='a small body' "$base/small")" ;;
    download) printf 'download %s\n' "$(wget -q -O - "$base/large" | sha256sum | cut -d' ' -f1)" ;;
    upload) printf 'upload %s\n' "$(wget -q -O - --post-file="$file" "$base/large")" ;;
    events) wget -q -O - "$base/events" | sed -un 's/^data: /events /p' ;;
  esac
done
