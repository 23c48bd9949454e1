n=$1; s=$2; z=$3; m=$5; x=$6;
say() { echo "VPROV-$n $*"; };
fail() { say FAILED "$*"; exit 0; };
u=$(uname -sm); [ "$u" = "$4" ] || { say OTHER "$u"; exit 0; };
i=$(id -u);
safe() {
 l=$(ls -lnd "$@" 2>/dev/null) || return 1;
 echo "$l" | while read -r p c o g b r; do
  case $p in l*|?????w*|????????w*) exit 1;; -*) [ -z "$z" ] || [ "$b" = "$z" ] || exit 1;; esac;
  [ "$o" = "$i" ] || [ "$o" = 0 ] || exit 1;
 done;
};
go() { exec "$1" executor --nonce $n --build $s $m; };
if [ "$x" ]; then
 [ -f "$x" ] || fail "there is no file $x";
 z=; p=$x; set --; while [ "$p" ]; do set -- "$p" "$@"; p=${p%/*}; done;
 safe "$@" || fail "$x or a directory above it is a link, belongs to somebody else or can be changed by others";
 r=$("$x" executor --verify $s 2>&1) || fail "$x is another build of vprov or does not run: $r";
 go "$x";
fi;
if [ "$i" = 0 ]; then set -- /var/lib/vprov /run/vprov; else set -- "$HOME/.cache/vprov" /run/user/$i/vprov; fi;
for d; do
 e=$d/executor/$s;
 [ -x "$e/vprov" ] && safe "$d" "$d/executor" "$e" "$e/vprov" && go "$e/vprov";
done;
umask 077; w=;
for d; do
 e=$d/executor/$s; t=$e/.$n;
 r=$(mkdir -p "$e" 2>&1) || { w="$w $r;"; continue; };
 safe "$d" "$d/executor" "$e" || { w="$w $d belongs to somebody else or can be changed by others;"; continue; };
 r=$({ printf "#\041/bin/sh\n" >"$t" && chmod 700 "$t"; } 2>&1) || { rm -f "$t"; w="$w $r;"; continue; };
 "$t" 2>/dev/null || { rm -f "$t"; w="$w no program may run in $d (mounted noexec);"; continue; };
 say UPLOAD "$d";
 r=$(head -c $z 2>&1 >"$t") || { rm -f "$t"; fail "the upload to $d failed: $r"; };
 r=$("$t" executor --verify $s 2>&1) || { rm -f "$t"; fail "the upload to $d did not arrive whole: $r"; };
 mv -f "$t" "$e/vprov" && go "$e/vprov";
 fail "the executor in $d does not start";
done;
fail "there is no place for the executor:$w"
