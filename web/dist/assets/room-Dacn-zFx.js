import{b as u,m as b,A as P,i as D}from"./icons-C4OZ1Tkm.js";import{P as O,c as W,b as x,t as U,d as A,e as q,r as p,a as I}from"./page-BmFCszxH.js";import{S as M,T as R,d as H,k as z}from"./messages-CMAkC_i9.js";import{c as _}from"./confirm-C0pRWn9b.js";import{a as B,k as G,f as K}from"./seat-Bgahqisy.js";import{w as L}from"./talk-CIEF7Xoe.js";var N=Object.defineProperty,F=Object.getOwnPropertyDescriptor,k=e=>{throw TypeError(e)},i=(e,t,s,c)=>{for(var o=c>1?void 0:c?F(t,s):t,h=e.length-1,m;h>=0;h--)(m=e[h])&&(o=(c?m(t,s,o):m(o))||o);return c&&o&&N(t,s,o),o},$=(e,t,s)=>t.has(e)||k("Cannot "+s),d=(e,t,s)=>($(e,t,"read from private field"),s?s.call(e):t.get(e)),y=(e,t,s)=>t.has(e)?k("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,s),n=(e,t,s)=>($(e,t,"access private method"),s),l,f,a,g,C,S,w,T,v,E;const ee=()=>document.createElement("t-room");let r=class extends O{constructor(){super(...arguments),y(this,a),this.error="",this.busy=!1,this.waitUntil=0,y(this,l,`~${location.pathname.split("/")[2]??""}`),y(this,f,J())}connectedCallback(){super.connectedCallback();const e=B(d(this,l));e&&n(this,a,w).call(this,e)}disconnectedCallback(){super.disconnectedCallback(),this.session?.stop()}render(){if(this.look(this.session),this.ended!==void 0)return n(this,a,E).call(this);const{session:e,chat:t,seat:s}=this;return!e||!t||!s?n(this,a,g).call(this):u`<t-talk
      class="screen"
      .session=${e}
      .chat=${t}
      .name=${s.other.name}
      .actions=${u`<button class="end" @click=${()=>{n(this,a,T).call(this)}}>End chat</button>`}
    ></t-talk>`}updated(){this.ended!==void 0&&document.activeElement===document.body&&this.querySelector("h1")?.focus()}};l=new WeakMap;f=new WeakMap;a=new WeakSet;g=function(){const e=this.waitUntil-Date.now();return this.tickWhile(e>0),u`<main class="page narrow">
      <header class="brand">${b}<h1>${d(this,f)?`Hello ${d(this,f)}`:"Hello"}</h1></header>
      <p class="lead">Type the code you were given, and the chat opens.</p>
      <form class="card stack" @submit=${t=>{n(this,a,S).call(this,t)}}>
        <label
          >Code
          <input
            name="code"
            class="code"
            required
            autofocus
            autocomplete="off"
            autocapitalize="characters"
            spellcheck="false"
            placeholder="ABCD-2345"
            aria-invalid=${this.error!==""}
            aria-describedby="error"
            @input=${t=>n(this,a,C).call(this,t)}
        /></label>
        <p id="error" class="error" role="alert">
          ${this.error}${e>0?u` <span aria-live="off">Wait ${W(e)}.</span>`:P}
        </p>
        <button class="primary" ?disabled=${this.busy||e>0}>${this.busy?"Opening…":"Open the chat"}</button>
      </form>
      <p class="hint">${D.lock} What is said here is in memory only, and gone when either of you ends it.</p>
    </main>`};C=function(e){const t=e.target;t.selectionStart===t.value.length&&(t.value=x(t.value)),this.error=""};S=async function(e){e.preventDefault();const t=this.querySelector("[name=code]");[this.busy,this.error]=[!0,""];try{const s=await U(d(this,l),t?.value??"");G(d(this,l),s),n(this,a,w).call(this,s)}catch(s){const{code:c,message:o,retryAfter:h}=s;this.error=c==="not_opened"?"This code does not open the chat. Look at each letter; or the chat may have ended.":h!==void 0?"Too many wrong codes.":o,h!==void 0&&(this.waitUntil=Date.now()+h),t?.select()}this.busy=!1};w=function(e){const t=new M({login:{url:q(),user:d(this,l),password:e.token,device:`web-${A()}`,keep:!1},me:e.user,peer:e.other.user,dial:H,store:new R(sessionStorage,`outbox:${e.room}`)}),s=t.chat(e.room);t.watchPresence(e.other.user),t.on.ended=()=>n(this,a,v).call(this,s),t.watch(()=>{t.connection.state==="refused"&&!s.ended&&(s.ended={why:"closed",mine:!1},n(this,a,v).call(this,s))}),[this.seat,this.session,this.chat]=[e,t,s],t.start()};T=async function(){const{session:e,chat:t,seat:s}=this;if(!(!e||!t||!s||!await _({title:"End the chat?",text:`It ends for ${s.other.name} too, and everything said in it is destroyed.`,yes:"End chat",danger:!0})))try{await e.end(t)}catch{await _({title:"Not ended",text:"There is no connection. Try again when there is one.",yes:"OK",no:"Close"})}};v=function(e){const{why:t,mine:s}=e.ended??{why:"closed",mine:!1};this.ended=L(t,s,this.seat?.other.name??"The other"),K(d(this,l)),z(e.name,""),this.session?.stop(),document.title="The chat has ended – Tidings"};E=function(){return u`<main class="page narrow ended">
      <header class="brand">${b}<h1 tabindex="-1">The chat has ended</h1></header>
      <p class="lead" role="status">${this.ended} Everything said in it is destroyed: nobody can read it any more.</p>
      <p><a class="button primary" href="/">Make a new room</a></p>
    </main>`};i([p()],r.prototype,"seat",2);i([p()],r.prototype,"session",2);i([p()],r.prototype,"chat",2);i([p()],r.prototype,"error",2);i([p()],r.prototype,"busy",2);i([p()],r.prototype,"waitUntil",2);i([p()],r.prototype,"ended",2);r=i([I("t-room")],r);function J(){try{return decodeURIComponent(location.hash.slice(1)).trim().slice(0,40)}catch{return""}}export{r as RoomPage,ee as open};
